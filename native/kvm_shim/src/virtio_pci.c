/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio over PCI (virtio 1.2, 4.1), without what came before 1.0: the function's
 * configuration space and its one BAR.
 *
 * Locks: the bus's lock (held whenever a function's configuration is touched) guards where
 * the BAR is; the device's lock is taken after it, or alone by an access to the BAR. Moving
 * the BAR waits for such accesses, so no device lock is held then.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "bus.h"
#include "error.h"
#include "virtio_transport.h"

enum {
    VENDOR = 0x1af4,
    DEVICE = 0x1040, /* and the device's type */
    SUBSYSTEM = 0x40, /* from here on it is no transitional device (4.1.2.1) */

    /* What is of one kind has its pages to itself. */
    BAR_COMMON = 0x0,
    BAR_ISR = 0x2000,
    BAR_DEVICE = 0x4000,
    BAR_NOTIFY = 0x6000,
    BAR_MSIX_TABLE = 0x8000,
    BAR_MSIX_PBA = 0x48000,
    BAR_SIZE = 0x80000,
    COMMON_SIZE = 0x38,
    NOTIFY_SIZE = 0x1000,
    DEVICE_SIZE = 0x1000,
    NOTIFY_MULTIPLIER = 4,

    CAP_MSIX = 0x40,
    CAP_COMMON = 0x50,
    CAP_ISR = 0x60,
    CAP_DEVICE = 0x70,
    CAP_NOTIFY = 0x80,
    CAP_WINDOW = 0x94,
    WINDOW_DATA = CAP_WINDOW + sizeof(struct virtio_pci_cap),
};

static uint32_t config_get32(const struct pci_config *config, uint32_t reg)
{
    uint32_t value;

    memcpy(&value, &config->bytes[reg], sizeof(value));
    return value;
}

/* ---- the BAR ------------------------------------------------------------------ */

static void virtio_config_read(struct virtio_device *device, uint32_t offset, uint8_t *data,
                               uint32_t size)
{
    pthread_mutex_lock(&device->config_lock);
    for (uint32_t i = 0; i < size && offset + i < device->config_size; i++)
        data[i] = device->config[offset + i];
    pthread_mutex_unlock(&device->config_lock);
}

static void virtio_bar_read(void *opaque, uint64_t where, uint8_t *data, uint32_t size)
{
    struct virtio_device *device = opaque;
    uint32_t offset = (uint32_t)where;

    pthread_mutex_lock(&device->lock);
    if (offset < BAR_ISR) {
        virtio_common_read(device, offset, data, size);
    } else if (offset < BAR_DEVICE) {
        if (offset == BAR_ISR && size == 1)
            data[0] = atomic_exchange(&device->isr, 0);
    } else if (offset < BAR_NOTIFY) {
        virtio_config_read(device, offset - BAR_DEVICE, data, size);
    } else if (offset >= BAR_MSIX_PBA) {
        msix_pba_read(&device->msix, offset - BAR_MSIX_PBA, data, size);
    } else if (offset >= BAR_MSIX_TABLE) {
        msix_table_read(&device->msix, offset - BAR_MSIX_TABLE, data, size);
    }
    pthread_mutex_unlock(&device->lock);
}

/* The driver's word that there is something in a queue; KVM hears most of them itself. */
static void virtio_notify(struct virtio_device *device, uint32_t offset)
{
    uint32_t index = offset / NOTIFY_MULTIPLIER;

    if (offset % NOTIFY_MULTIPLIER == 0 && index < device->queue_count)
        virtqueue_kick(&device->queues[index]);
}

static void virtio_bar_write(void *opaque, uint64_t where, const uint8_t *data, uint32_t size)
{
    struct virtio_device *device = opaque;
    uint32_t offset = (uint32_t)where;
    kvmshim_error err;
    int rc = 0;

    if (offset >= BAR_NOTIFY && offset < BAR_MSIX_TABLE) {
        virtio_notify(device, offset - BAR_NOTIFY);
        return;
    }
    pthread_mutex_lock(&device->lock);
    if (offset < BAR_ISR) {
        virtio_common_write(device, offset, data, size);
    } else if (offset >= BAR_DEVICE && offset < BAR_NOTIFY) {
        if (device->ops->config_written && offset - BAR_DEVICE + size <= device->config_size)
            device->ops->config_written(device, offset - BAR_DEVICE, data, size);
    } else if (offset >= BAR_MSIX_TABLE && offset < BAR_MSIX_PBA) {
        rc = msix_table_write(&device->msix, offset - BAR_MSIX_TABLE, data, size, &err);
    }
    pthread_mutex_unlock(&device->lock);
    if (rc < 0)
        virtio_log(device, "%s", err.context);
}

static const struct bus_ops virtio_bar_ops = {.read = virtio_bar_read, .write = virtio_bar_write};

/* ---- where the BAR is ----------------------------------------------------------- */

/* Where KVM does not take a doorbell, its writes come to virtio_bar_write(). */
static void virtio_bar_moved(void *opaque, bool answers)
{
    struct virtio_device *device = opaque;
    uint64_t doorbells = device->bar.base + BAR_NOTIFY;

    for (uint16_t i = 0; i < device->queue_count; i++) {
        int fd = device->queues[i].kick_fd;

        if (answers)
            kvmshim_ioeventfd_add(device->device.vm, KVMSHIM_SPACE_MMIO,
                                  doorbells + i * NOTIFY_MULTIPLIER, 0, 0, 0, fd, NULL);
        else
            kvmshim_ioeventfd_remove(device->device.vm, KVMSHIM_SPACE_MMIO,
                                     doorbells + i * NOTIFY_MULTIPLIER, 0, 0, 0, fd, NULL);
    }
}

/* ---- the configuration space ------------------------------------------------------ */

static bool covers(uint32_t reg, uint32_t size, uint32_t first, uint32_t length)
{
    return reg < first + length && first < reg + size;
}

/* The window to the BAR in the configuration space (4.1.4.9), for firmware that maps no BAR.
 * False unless it is set to something that makes sense. */
static bool virtio_window(const struct virtio_device *device, uint32_t *offset, uint32_t *size)
{
    const struct pci_config *config = &device->function.config;

    *offset = config_get32(config, CAP_WINDOW + VIRTIO_PCI_CAP_OFFSET);
    *size = config_get32(config, CAP_WINDOW + VIRTIO_PCI_CAP_LENGTH);
    return config->bytes[CAP_WINDOW + VIRTIO_PCI_CAP_BAR] == 0 &&
           (*size == 1 || *size == 2 || *size == 4) && *offset % *size == 0 &&
           *offset < BAR_SIZE;
}

static void virtio_reading(struct pci_function *function, uint32_t reg, uint32_t size)
{
    struct virtio_device *device =
        (struct virtio_device *)((char *)function - offsetof(struct virtio_device, function));
    uint32_t offset, length;

    if (covers(reg, size, WINDOW_DATA, 4) && virtio_window(device, &offset, &length)) {
        memset(&function->config.bytes[WINDOW_DATA], 0xff, length);
        virtio_bar_read(device, offset, &function->config.bytes[WINDOW_DATA], length);
    }
}

static void virtio_written(struct pci_function *function, uint32_t reg, uint32_t size)
{
    struct virtio_device *device =
        (struct virtio_device *)((char *)function - offsetof(struct virtio_device, function));
    kvmshim_error err;
    uint32_t offset, length;
    int rc = 0;

    if (covers(reg, size, PCI_COMMAND, 2) || covers(reg, size, PCI_BASE_ADDRESS_0, 8)) {
        rc = pci_bar_follow(&device->bar, &err);
    } else if (covers(reg, size, CAP_MSIX + PCI_MSIX_FLAGS, 2)) {
        pthread_mutex_lock(&device->lock);
        rc = msix_control_written(&device->msix, &function->config, &err);
        pthread_mutex_unlock(&device->lock);
    } else if (covers(reg, size, WINDOW_DATA, 4) && virtio_window(device, &offset, &length)) {
        virtio_bar_write(device, offset, &function->config.bytes[WINDOW_DATA], length);
    }
    if (rc < 0)
        virtio_log(device, "%s", err.context);
}

static void add_capability(struct pci_config *config, uint32_t reg, uint32_t next, uint8_t type,
                           uint8_t length, uint32_t offset, uint32_t size)
{
    pci_config_set(config, reg, 2, PCI_CAP_ID_VNDR | next << 8, 0);
    pci_config_set(config, reg + VIRTIO_PCI_CAP_LEN, 1, length, 0);
    pci_config_set(config, reg + VIRTIO_PCI_CAP_CFG_TYPE, 1, type, 0);
    pci_config_set(config, reg + VIRTIO_PCI_CAP_OFFSET, 4, offset, 0);
    pci_config_set(config, reg + VIRTIO_PCI_CAP_LENGTH, 4, size, 0);
}

static void virtio_capabilities(struct virtio_device *device)
{
    struct pci_config *config = &device->function.config;
    const uint8_t plain = sizeof(struct virtio_pci_cap);

    pci_config_set(config, PCI_STATUS, 2, PCI_STATUS_CAP_LIST, 0);
    pci_config_set(config, PCI_CAPABILITY_LIST, 1, CAP_MSIX, 0);
    pci_config_set(config, CAP_MSIX + PCI_CAP_LIST_NEXT, 1, CAP_COMMON, 0);
    add_capability(config, CAP_COMMON, CAP_ISR, VIRTIO_PCI_CAP_COMMON_CFG, plain, BAR_COMMON,
                   COMMON_SIZE);
    add_capability(config, CAP_ISR, CAP_DEVICE, VIRTIO_PCI_CAP_ISR_CFG, plain, BAR_ISR, 1);
    add_capability(config, CAP_DEVICE, CAP_NOTIFY, VIRTIO_PCI_CAP_DEVICE_CFG, plain, BAR_DEVICE,
                   DEVICE_SIZE);
    add_capability(config, CAP_NOTIFY, CAP_WINDOW, VIRTIO_PCI_CAP_NOTIFY_CFG,
                   sizeof(struct virtio_pci_notify_cap), BAR_NOTIFY, NOTIFY_SIZE);
    pci_config_set(config, CAP_NOTIFY + VIRTIO_PCI_NOTIFY_CAP_MULT, 4, NOTIFY_MULTIPLIER, 0);
    add_capability(config, CAP_WINDOW, 0, VIRTIO_PCI_CAP_PCI_CFG,
                   sizeof(struct virtio_pci_cfg_cap), 0, 0);
    pci_config_set(config, CAP_WINDOW + VIRTIO_PCI_CAP_BAR, 1, 0, 0xff);
    pci_config_set(config, CAP_WINDOW + VIRTIO_PCI_CAP_OFFSET, 4, 0, UINT32_MAX);
    pci_config_set(config, CAP_WINDOW + VIRTIO_PCI_CAP_LENGTH, 4, 0, UINT32_MAX);
    pci_config_set(config, WINDOW_DATA, 4, 0, UINT32_MAX);
}

int virtio_pci_init(struct virtio_device *device, const kvmshim_place *place, kvmshim_error *err)
{
    struct pci_config *config = &device->function.config;
    const struct pci_identity identity = {
        .vendor = VENDOR,
        .device = (uint16_t)(DEVICE + device->ops->type),
        .class_code = device->ops->class_code,
        .revision = 1,
    };
    int rc;

    pci_config_init(config, &identity);
    pci_config_set(config, PCI_SUBSYSTEM_VENDOR_ID, 2, VENDOR, 0);
    pci_config_set(config, PCI_SUBSYSTEM_ID, 2, SUBSYSTEM + (uint32_t)device->ops->type, 0);
    device->bar = (struct pci_bar){
        .vm = device->device.vm,
        .config = config,
        .reg = PCI_BASE_ADDRESS_0,
        .size = BAR_SIZE,
        .ops = &virtio_bar_ops,
        .opaque = device,
        .moved = virtio_bar_moved,
    };
    rc = pci_bar_init(&device->bar, place->bar, err);
    if (rc < 0)
        return rc;
    virtio_capabilities(device);
    rc = msix_init(&device->msix, device->device.vm, (uint16_t)(device->queue_count + 1), config,
                   CAP_MSIX, BAR_MSIX_TABLE, BAR_MSIX_PBA, err);
    if (rc < 0)
        return rc;
    device->pci = place->pci;
    device->devfn = (uint8_t)(place->slot << 3);
    device->function.reading = virtio_reading;
    device->function.written = virtio_written;
    rc = pci_attach(device->pci, device->devfn, &device->function, err);
    if (rc < 0)
        msix_free(&device->msix);
    return rc;
}

void virtio_pci_free(struct virtio_device *device)
{
    pci_detach(device->pci, device->devfn);
    pci_bar_unmap(&device->bar);
    msix_free(&device->msix);
}
