/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI segment 0, bus 0: the two ways to its configuration space, and the host bridge.
 *
 * Mechanism 1 (PCI 3.0, 3.2.2.3.2): CONFIG_ADDRESS answers 32-bit accesses at 0xcf8 only;
 * narrower ones pass through to what else is there on a PC (0xcf9 is a reset register on
 * some), which is nothing here. CONFIG_DATA has byte lanes.
 * ECAM (PCIe 5.0, 7.2.2): 4 KiB for each function, of which conventional functions
 * implement the first 256 bytes.
 *
 * An access is cut at dword boundaries, as the CPU and the host bridge do, so a piece never
 * crosses a register, a function or the two halves of mechanism 1. What is not there reads all
 * ones and swallows writes.
 */
#include "pci.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bus.h"
#include "device.h"
#include "error.h"
#include "lanes.h"

enum {
    CONFIG_PORT = 0xcf8,
    CONFIG_PORTS = 8,
    CONFIG_DATA = 4, /* 0xcfc, from CONFIG_PORT */
    BUS_FUNCTIONS = 256,
    ECAM_FUNCTION_SHIFT = 12,
};

#define ECAM_SIZE UINT64_C(0x100000)
#define ADDRESS_ENABLE UINT32_C(0x80000000)
#define ADDRESS_WRITABLE UINT32_C(0x80fffffc) /* the reserved bits read 0 */

static const struct pci_identity host_bridge_identity = {
    .vendor = 0x8086, /* Intel 440 family: what guests of Cloud Hypervisor know */
    .device = 0x0d57,
    .class_code = 0x060000, /* bridge, host */
};

struct pci {
    kvmshim_device device;
    uint64_t ecam;
    pthread_mutex_t lock; /* guards what follows and the config of every function */
    uint32_t address;
    struct pci_function *functions[BUS_FUNCTIONS];
    struct pci_function host_bridge;
};

struct pci_state {
    uint32_t address;
    uint8_t host_bridge[PCI_CONFIG_SIZE];
} __attribute__((packed));

/* The length of the first piece of an access, up to the next dword boundary. */
static uint32_t pci_piece(uint64_t offset, uint32_t size)
{
    uint32_t room = 4 - (uint32_t)(offset & 3);

    return size < room ? size : room;
}

static void pci_function_read(struct pci *pci, uint32_t devfn, uint32_t reg, uint8_t *data,
                              uint32_t size)
{
    struct pci_function *function = pci->functions[devfn];

    if (!function) {
        memset(data, 0xff, size);
        return;
    }
    if (function->reading)
        function->reading(function, reg, size);
    pci_config_read(&function->config, reg, data, size);
}

static void pci_function_write(struct pci *pci, uint32_t devfn, uint32_t reg, const uint8_t *data,
                               uint32_t size)
{
    struct pci_function *function = pci->functions[devfn];

    if (!function || reg >= PCI_CONFIG_SIZE)
        return;
    pci_config_write(&function->config, reg, data, size);
    if (function->written)
        function->written(function, reg, size);
}

/* Does CONFIG_ADDRESS select something on bus 0? */
static int pci_selected(const struct pci *pci)
{
    return (pci->address & ADDRESS_ENABLE) && (pci->address >> 16 & 0xff) == 0;
}

static void pci_port_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    struct pci *pci = opaque;

    pthread_mutex_lock(&pci->lock);
    for (uint32_t piece; size; offset += piece, data += piece, size -= piece) {
        piece = pci_piece(offset, size);
        if (offset >= CONFIG_DATA && pci_selected(pci))
            pci_function_read(pci, pci->address >> 8 & 0xff,
                              (pci->address & 0xfc) + (uint32_t)(offset - CONFIG_DATA), data,
                              piece);
        else if (offset == 0 && piece == 4)
            lanes_put32(data, pci->address);
    }
    pthread_mutex_unlock(&pci->lock);
}

static void pci_port_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct pci *pci = opaque;

    pthread_mutex_lock(&pci->lock);
    for (uint32_t piece; size; offset += piece, data += piece, size -= piece) {
        piece = pci_piece(offset, size);
        if (offset >= CONFIG_DATA && pci_selected(pci))
            pci_function_write(pci, pci->address >> 8 & 0xff,
                               (pci->address & 0xfc) + (uint32_t)(offset - CONFIG_DATA), data,
                               piece);
        else if (offset == 0 && piece == 4)
            pci->address = lanes_get32(data) & ADDRESS_WRITABLE;
    }
    pthread_mutex_unlock(&pci->lock);
}

static const struct bus_ops pci_port_ops = {.read = pci_port_read, .write = pci_port_write};

static void pci_ecam_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    struct pci *pci = opaque;

    pthread_mutex_lock(&pci->lock);
    for (uint32_t piece; size; offset += piece, data += piece, size -= piece) {
        piece = pci_piece(offset, size);
        pci_function_read(pci, (uint32_t)(offset >> ECAM_FUNCTION_SHIFT),
                          (uint32_t)offset & ((1 << ECAM_FUNCTION_SHIFT) - 1), data, piece);
    }
    pthread_mutex_unlock(&pci->lock);
}

static void pci_ecam_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct pci *pci = opaque;

    pthread_mutex_lock(&pci->lock);
    for (uint32_t piece; size; offset += piece, data += piece, size -= piece) {
        piece = pci_piece(offset, size);
        pci_function_write(pci, (uint32_t)(offset >> ECAM_FUNCTION_SHIFT),
                           (uint32_t)offset & ((1 << ECAM_FUNCTION_SHIFT) - 1), data, piece);
    }
    pthread_mutex_unlock(&pci->lock);
}

static const struct bus_ops pci_ecam_ops = {.read = pci_ecam_read, .write = pci_ecam_write};

static void pci_save(kvmshim_device *device, void *state)
{
    struct pci *pci = (struct pci *)device;
    struct pci_state *saved = state;

    pthread_mutex_lock(&pci->lock);
    saved->address = pci->address;
    memcpy(saved->host_bridge, pci->host_bridge.config.bytes, sizeof(saved->host_bridge));
    pthread_mutex_unlock(&pci->lock);
}

static int pci_load(kvmshim_device *device, const void *state, kvmshim_error *err)
{
    struct pci *pci = (struct pci *)device;
    const struct pci_state *saved = state;
    int rc;

    if (saved->address & ~ADDRESS_WRITABLE)
        return error_set(err, -EINVAL, "pci state: CONFIG_ADDRESS 0x%08x", saved->address);
    pthread_mutex_lock(&pci->lock);
    rc = pci_config_load(&pci->host_bridge.config, saved->host_bridge, err);
    if (rc == 0)
        pci->address = saved->address;
    pthread_mutex_unlock(&pci->lock);
    return rc;
}

static void pci_destroy(kvmshim_device *device)
{
    struct pci *pci = (struct pci *)device;

    bus_remove(device->vm, KVMSHIM_SPACE_MMIO, pci->ecam, NULL);
    bus_remove(device->vm, KVMSHIM_SPACE_PIO, CONFIG_PORT, NULL);
    pthread_mutex_destroy(&pci->lock);
    free(pci);
}

static const struct device_ops pci_ops = {
    .name = "pci",
    .version = 1,
    .state_size = sizeof(struct pci_state),
    .save = pci_save,
    .load = pci_load,
    .destroy = pci_destroy,
};

int pci_check_place(const kvmshim_place *place, kvmshim_error *err)
{
    size_t length = place->id ? strnlen(place->id, PCI_ID_SIZE) : 0;

    if (length == 0 || length == PCI_ID_SIZE)
        return error_set(err, -EINVAL, "the id of a PCI device has 1 to %d characters",
                         PCI_ID_SIZE - 1);
    if (place->slot == 0 || place->slot >= PCI_SLOTS)
        return error_set(err, -EINVAL, "%s: slot %u", place->id, place->slot);
    return 0;
}

int pci_attach(kvmshim_device *device, uint8_t devfn, struct pci_function *function,
               kvmshim_error *err)
{
    struct pci *pci = (struct pci *)device;
    int rc = 0;

    if (device->ops != &pci_ops)
        return error_set(err, -EINVAL, "a %s is no PCI bus", device->ops->name);
    pthread_mutex_lock(&pci->lock);
    if (pci->functions[devfn])
        rc = error_set(err, -EEXIST, "pci: 00:%02x.%x is taken", devfn >> 3, devfn & 7);
    else
        pci->functions[devfn] = function;
    pthread_mutex_unlock(&pci->lock);
    return rc;
}

void pci_detach(kvmshim_device *device, uint8_t devfn)
{
    struct pci *pci = (struct pci *)device;

    pthread_mutex_lock(&pci->lock);
    pci->functions[devfn] = NULL;
    pthread_mutex_unlock(&pci->lock);
}

int kvmshim_pci_create(kvmshim_vm *vm, uint64_t ecam, kvmshim_device **device,
                       kvmshim_error *err)
{
    struct pci *pci;
    int rc;

    if (ecam % ECAM_SIZE)
        return error_set(err, -EINVAL, "pci: ECAM at 0x%llx is not aligned to 1 MiB",
                         (unsigned long long)ecam);
    pci = calloc(1, sizeof(*pci));
    if (!pci)
        return error_set(err, -ENOMEM, "pci: allocate");
    pci->device.ops = &pci_ops;
    pci->device.vm = vm;
    pci->ecam = ecam;
    pthread_mutex_init(&pci->lock, NULL);
    pci_config_init(&pci->host_bridge.config, &host_bridge_identity);

    rc = pci_attach(&pci->device, 0, &pci->host_bridge, err);
    if (rc < 0)
        goto free_pci;
    rc = bus_add(vm, KVMSHIM_SPACE_PIO, CONFIG_PORT, CONFIG_PORTS, &pci_port_ops, pci, err);
    if (rc < 0)
        goto free_pci;
    rc = bus_add(vm, KVMSHIM_SPACE_MMIO, ecam, ECAM_SIZE, &pci_ecam_ops, pci, err);
    if (rc < 0)
        goto remove_ports;
    device_register(vm, &pci->device, &pci_ops);
    if (device)
        *device = &pci->device;
    return 0;

remove_ports:
    bus_remove(vm, KVMSHIM_SPACE_PIO, CONFIG_PORT, NULL);
free_pci:
    pthread_mutex_destroy(&pci->lock);
    free(pci);
    return rc;
}
