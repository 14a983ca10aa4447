/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register behind the ACPI Generic Event Device (ACPI0013): one byte of pending events
 * that reading clears. The DSDT's _EVT method reads it when the edge-triggered interrupt comes
 * and notifies the devices that the flags stand for.
 *
 * No event is lost: a flag is set before the edge, both under the lock that a read takes, so
 * the read that follows an edge sees the flag. An edge that finds the pin masked stays pending
 * in the IOAPIC.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "bus.h"
#include "device.h"
#include "error.h"

enum {
    GED_REGISTERS = 1,
    GED_FLAGS = KVMSHIM_GED_CPU | KVMSHIM_GED_MEMORY | KVMSHIM_GED_PCI | KVMSHIM_GED_POWER,
    GED_GSIS = 24, /* pins of the IOAPIC */
};

struct ged {
    kvmshim_device device;
    uint64_t gpa;
    uint32_t gsi;
    pthread_mutex_t lock;
    uint8_t flags;
};

struct ged_state {
    uint8_t flags;
} __attribute__((packed));

static void ged_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    struct ged *ged = opaque;

    (void)offset;
    (void)size;
    pthread_mutex_lock(&ged->lock);
    data[0] = ged->flags;
    ged->flags = 0;
    pthread_mutex_unlock(&ged->lock);
}

static void ged_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    (void)opaque; /* only the host sets flags */
    (void)offset;
    (void)data;
    (void)size;
}

static const struct bus_ops ged_bus_ops = {.read = ged_read, .write = ged_write};

/* Call with the lock held. */
static void ged_pulse(struct ged *ged)
{
    machine_irq(ged->device.vm, ged->gsi, 1);
    machine_irq(ged->device.vm, ged->gsi, 0);
}

static void ged_save(kvmshim_device *device, void *state)
{
    struct ged *ged = (struct ged *)device;
    struct ged_state *saved = state;

    pthread_mutex_lock(&ged->lock);
    saved->flags = ged->flags;
    pthread_mutex_unlock(&ged->lock);
}

static int ged_load(kvmshim_device *device, const void *state, kvmshim_error *err)
{
    struct ged *ged = (struct ged *)device;
    const struct ged_state *saved = state;

    if (saved->flags & ~GED_FLAGS)
        return error_set(err, -EINVAL, "ged state: flags 0x%02x", saved->flags);
    pthread_mutex_lock(&ged->lock);
    ged->flags = saved->flags;
    if (ged->flags) /* its edge may have been raised on the machine that saved this */
        ged_pulse(ged);
    pthread_mutex_unlock(&ged->lock);
    return 0;
}

static void ged_destroy(kvmshim_device *device)
{
    struct ged *ged = (struct ged *)device;

    bus_remove(device->vm, KVMSHIM_SPACE_MMIO, ged->gpa, NULL);
    pthread_mutex_destroy(&ged->lock);
    free(ged);
}

static const struct device_ops ged_ops = {
    .name = "ged",
    .version = 1,
    .state_size = sizeof(struct ged_state),
    .save = ged_save,
    .load = ged_load,
    .destroy = ged_destroy,
};

int kvmshim_ged_create(kvmshim_vm *vm, uint64_t gpa, uint32_t gsi, kvmshim_device **device,
                       kvmshim_error *err)
{
    struct ged *ged;
    int rc;

    if (gsi >= GED_GSIS)
        return error_set(err, -EINVAL, "ged: interrupt %u is no IOAPIC pin", gsi);
    ged = calloc(1, sizeof(*ged));
    if (!ged)
        return error_set(err, -ENOMEM, "ged: allocate");
    ged->device.vm = vm;
    ged->gpa = gpa;
    ged->gsi = gsi;
    pthread_mutex_init(&ged->lock, NULL);

    rc = bus_add(vm, KVMSHIM_SPACE_MMIO, gpa, GED_REGISTERS, &ged_bus_ops, ged, err);
    if (rc < 0) {
        pthread_mutex_destroy(&ged->lock);
        free(ged);
        return rc;
    }
    device_register(vm, &ged->device, &ged_ops);
    if (device)
        *device = &ged->device;
    return 0;
}

int kvmshim_ged_notify(kvmshim_device *device, uint8_t flags, kvmshim_error *err)
{
    struct ged *ged = (struct ged *)device;

    if (device->ops != &ged_ops)
        return error_set(err, -EINVAL, "ged notify: the device is a %s", device->ops->name);
    if (flags == 0 || (flags & ~GED_FLAGS))
        return error_set(err, -EINVAL, "ged notify: flags 0x%02x", flags);
    pthread_mutex_lock(&ged->lock);
    ged->flags |= flags;
    ged_pulse(ged);
    pthread_mutex_unlock(&ged->lock);
    return 0;
}
