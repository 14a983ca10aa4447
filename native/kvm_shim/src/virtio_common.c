/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The common configuration structure (virtio 1.2, 4.1.4.3). A register answers accesses of
 * its own width at its own place (4.1.3.1); any other reads all ones and writes nothing.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#include "lanes.h"
#include "virtio_transport.h"

static uint32_t register_width(uint32_t offset)
{
    switch (offset) {
    case VIRTIO_PCI_COMMON_STATUS:
    case VIRTIO_PCI_COMMON_CFGGENERATION:
        return 1;
    case VIRTIO_PCI_COMMON_MSIX:
    case VIRTIO_PCI_COMMON_NUMQ:
    case VIRTIO_PCI_COMMON_Q_SELECT:
    case VIRTIO_PCI_COMMON_Q_SIZE:
    case VIRTIO_PCI_COMMON_Q_MSIX:
    case VIRTIO_PCI_COMMON_Q_ENABLE:
    case VIRTIO_PCI_COMMON_Q_NOFF:
        return 2;
    case VIRTIO_PCI_COMMON_DFSELECT:
    case VIRTIO_PCI_COMMON_DF:
    case VIRTIO_PCI_COMMON_GFSELECT:
    case VIRTIO_PCI_COMMON_GF:
    case VIRTIO_PCI_COMMON_Q_DESCLO:
    case VIRTIO_PCI_COMMON_Q_DESCHI:
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
    case VIRTIO_PCI_COMMON_Q_USEDLO:
    case VIRTIO_PCI_COMMON_Q_USEDHI:
        return 4;
    default:
        return 0;
    }
}

/* 32 of 64 feature bits; there are none beyond. */
static uint32_t feature_word(uint64_t features, uint32_t select)
{
    return select < 2 ? (uint32_t)(features >> 32 * select) : 0;
}

static void set_half(uint64_t *address, bool high, uint32_t value)
{
    if (high)
        *address = (*address & UINT32_MAX) | (uint64_t)value << 32;
    else
        *address = (*address & ~UINT64_C(0xffffffff)) | value;
}

/* ---- reading ------------------------------------------------------------------ */

static uint32_t queue_register(const struct virtqueue *queue, uint32_t offset)
{
    switch (offset) {
    case VIRTIO_PCI_COMMON_Q_SIZE:
        return queue->size;
    case VIRTIO_PCI_COMMON_Q_MSIX:
        return atomic_load(&queue->vector);
    case VIRTIO_PCI_COMMON_Q_ENABLE:
        return queue->enabled;
    case VIRTIO_PCI_COMMON_Q_NOFF:
        return queue->index;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
        return (uint32_t)queue->desc;
    case VIRTIO_PCI_COMMON_Q_DESCHI:
        return (uint32_t)(queue->desc >> 32);
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
        return (uint32_t)queue->avail;
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
        return (uint32_t)(queue->avail >> 32);
    case VIRTIO_PCI_COMMON_Q_USEDLO:
        return (uint32_t)queue->used;
    default:
        return (uint32_t)(queue->used >> 32);
    }
}

static uint32_t common_register(const struct virtio_device *device, uint32_t offset)
{
    switch (offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
        return device->device_feature_select;
    case VIRTIO_PCI_COMMON_DF:
        return feature_word(device->offered, device->device_feature_select);
    case VIRTIO_PCI_COMMON_GFSELECT:
        return device->driver_feature_select;
    case VIRTIO_PCI_COMMON_GF:
        return feature_word(device->features, device->driver_feature_select);
    case VIRTIO_PCI_COMMON_MSIX:
        return atomic_load(&device->config_vector);
    case VIRTIO_PCI_COMMON_NUMQ:
        return device->queue_count;
    case VIRTIO_PCI_COMMON_STATUS:
        return atomic_load(&device->status);
    case VIRTIO_PCI_COMMON_CFGGENERATION:
        return atomic_load(&device->generation);
    case VIRTIO_PCI_COMMON_Q_SELECT:
        return device->queue_select;
    default:
        if (device->queue_select >= device->queue_count)
            return 0; /* no such queue: its size is 0 */
        return queue_register(&device->queues[device->queue_select], offset);
    }
}

void virtio_common_read(struct virtio_device *device, uint32_t offset, uint8_t *data,
                        uint32_t size)
{
    uint32_t value;

    if (register_width(offset) != size)
        return;
    value = common_register(device, offset);
    for (uint32_t i = 0; i < size; i++)
        data[i] = (uint8_t)(value >> 8 * i);
}

/* ---- writing ------------------------------------------------------------------ */

/* A vector that is not there reads back as none: so the driver knows (4.1.5.1.2). */
static uint16_t known_vector(const struct virtio_device *device, uint32_t value)
{
    return value < device->msix.count ? (uint16_t)value : MSIX_NO_VECTOR;
}

static void queue_register_write(struct virtio_device *device, struct virtqueue *queue,
                                 uint32_t offset, uint32_t value)
{
    /* A queue is set up before its device works, and once. */
    if (queue->enabled || (atomic_load(&device->status) & VIRTIO_CONFIG_S_DRIVER_OK))
        return;
    switch (offset) {
    case VIRTIO_PCI_COMMON_Q_SIZE:
        if (value != 0 && value <= queue->size_max && (value & (value - 1)) == 0)
            queue->size = (uint16_t)value;
        break;
    case VIRTIO_PCI_COMMON_Q_MSIX:
        atomic_store(&queue->vector, known_vector(device, value));
        queue->call_fd = msix_fd(&device->msix, atomic_load(&queue->vector));
        break;
    case VIRTIO_PCI_COMMON_Q_ENABLE:
        queue->enabled = value == 1;
        break;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
    case VIRTIO_PCI_COMMON_Q_DESCHI:
        set_half(&queue->desc, offset == VIRTIO_PCI_COMMON_Q_DESCHI, value);
        break;
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
        set_half(&queue->avail, offset == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
        break;
    case VIRTIO_PCI_COMMON_Q_USEDLO:
    case VIRTIO_PCI_COMMON_Q_USEDHI:
        set_half(&queue->used, offset == VIRTIO_PCI_COMMON_Q_USEDHI, value);
        break;
    default:
        break; /* queue_notify_off is read-only */
    }
}

static void driver_features_write(struct virtio_device *device, uint32_t value)
{
    if (device->driver_feature_select < 2 &&
        !(atomic_load(&device->status) & VIRTIO_CONFIG_S_FEATURES_OK))
        set_half(&device->features, device->driver_feature_select == 1, value);
}

void virtio_common_write(struct virtio_device *device, uint32_t offset, const uint8_t *data,
                         uint32_t size)
{
    uint32_t value = 0;

    if (register_width(offset) != size)
        return;
    for (uint32_t i = 0; i < size; i++)
        value |= (uint32_t)data[i] << 8 * i;
    switch (offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
        device->device_feature_select = value;
        break;
    case VIRTIO_PCI_COMMON_GFSELECT:
        device->driver_feature_select = value;
        break;
    case VIRTIO_PCI_COMMON_GF:
        driver_features_write(device, value);
        break;
    case VIRTIO_PCI_COMMON_MSIX:
        atomic_store(&device->config_vector, known_vector(device, value));
        break;
    case VIRTIO_PCI_COMMON_STATUS:
        virtio_status_write(device, (uint8_t)value);
        break;
    case VIRTIO_PCI_COMMON_Q_SELECT:
        device->queue_select = (uint16_t)value;
        break;
    default:
        if (device->queue_select < device->queue_count)
            queue_register_write(device, &device->queues[device->queue_select], offset, value);
    }
}
