/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The panic device (QEMU's docs/specs/pvpanic, PCI 1b36:0011): one byte that tells which events
 * the host knows and to which a guest writes what happened to it. The guest goes on running:
 * it may have a crash kernel to start, a dump to write or a reboot to wait for.
 *
 * That the guest shuts down (bit 2) is not offered: ACPI says so, and powers off as well.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <misc/pvpanic.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus.h"
#include "device.h"
#include "error.h"
#include "event.h"
#include "kvm_shim_virtio.h"
#include "pci.h"
#include "pci_bar.h"

enum {
    PVPANIC_EVENTS = PVPANIC_PANICKED | PVPANIC_CRASH_LOADED,
    BAR_SIZE = 4096, /* a page, so that a guest can map it by itself */
};

#define TELL_INTERVAL_NS UINT64_C(1000000000)

static const struct pci_identity pvpanic_identity = {
    .vendor = 0x1b36, /* Red Hat */
    .device = 0x0011,
    .class_code = 0x088000, /* base system peripheral, other */
    .revision = 1,
};

struct pvpanic {
    kvmshim_device device;
    char id[PCI_ID_SIZE];
    kvmshim_device *pci;
    uint8_t devfn;
    struct pci_function function;
    struct pci_bar bar;

    pthread_mutex_t lock;
    uint64_t panics; /* reported by the guest */
    uint64_t held;   /* ... since the last that was told */
    uint64_t tell_next_ns;
};

struct pvpanic_state {
    uint8_t config[PCI_CONFIG_SIZE];
} __attribute__((packed));

/* ---- the register --------------------------------------------------------------- */

static void pvpanic_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    (void)opaque;
    memset(data, 0, size);
    if (offset == 0)
        data[0] = PVPANIC_EVENTS;
}

static void pvpanic_tell(struct pvpanic *pvpanic, uint8_t events, uint64_t held)
{
    kvmshim_event event = {.kind = KVMSHIM_EVENT_PANICKED, .detail = {events}};
    const char *what = "the guest panicked";

    if (events & PVPANIC_CRASH_LOADED)
        what = "the guest panicked and starts its crash kernel";
    snprintf(event.source, sizeof(event.source), "%s", pvpanic->id);
    if (held)
        snprintf(event.text, sizeof(event.text), "%s (%llu reports before were held back)", what,
                 (unsigned long long)held);
    else
        snprintf(event.text, sizeof(event.text), "%s", what);
    event_post(pvpanic->device.vm, &event);
}

static void pvpanic_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct pvpanic *pvpanic = opaque;
    uint64_t now = machine_now_ns();
    uint64_t held = 0;
    bool tell;

    (void)size;
    if (offset != 0 || !(data[0] & PVPANIC_EVENTS))
        return;
    pthread_mutex_lock(&pvpanic->lock);
    pvpanic->panics++;
    tell = now >= pvpanic->tell_next_ns;
    if (tell) {
        held = pvpanic->held;
        pvpanic->held = 0;
        pvpanic->tell_next_ns = now + TELL_INTERVAL_NS;
    } else {
        pvpanic->held++;
    }
    pthread_mutex_unlock(&pvpanic->lock);
    if (tell)
        pvpanic_tell(pvpanic, data[0], held);
}

static const struct bus_ops pvpanic_bus_ops = {.read = pvpanic_read, .write = pvpanic_write};

static void pvpanic_config_written(struct pci_function *function, uint32_t reg, uint32_t size)
{
    struct pvpanic *pvpanic =
        (struct pvpanic *)((char *)function - offsetof(struct pvpanic, function));

    (void)reg;
    (void)size;
    /* Where something else answers, this does not: the guest's own doing. */
    pci_bar_follow(&pvpanic->bar, NULL);
}

/* ---- life ------------------------------------------------------------------------- */

static void pvpanic_save(kvmshim_device *device, void *state)
{
    struct pvpanic *pvpanic = (struct pvpanic *)device;
    struct pvpanic_state *saved = state;

    memcpy(saved->config, pvpanic->function.config.bytes, sizeof(saved->config));
}

static int pvpanic_load(kvmshim_device *device, const void *state, kvmshim_error *err)
{
    struct pvpanic *pvpanic = (struct pvpanic *)device;
    const struct pvpanic_state *saved = state;
    int rc = pci_config_load(&pvpanic->function.config, saved->config, err);

    if (rc == 0)
        pci_bar_follow(&pvpanic->bar, NULL);
    return rc;
}

static void pvpanic_resume(kvmshim_device *device)
{
    /* A loaded BAR may have been in the way of another that was loaded later. */
    pci_bar_follow(&((struct pvpanic *)device)->bar, NULL);
}

static void pvpanic_counters(kvmshim_device *device, struct counters *counters)
{
    struct pvpanic *pvpanic = (struct pvpanic *)device;

    pthread_mutex_lock(&pvpanic->lock);
    counters_add(counters, pvpanic->panics, "panics");
    pthread_mutex_unlock(&pvpanic->lock);
}

static void pvpanic_free(struct pvpanic *pvpanic)
{
    pthread_mutex_destroy(&pvpanic->lock);
    free(pvpanic);
}

static void pvpanic_destroy(kvmshim_device *device)
{
    struct pvpanic *pvpanic = (struct pvpanic *)device;

    pci_detach(pvpanic->pci, pvpanic->devfn);
    pci_bar_unmap(&pvpanic->bar);
    pvpanic_free(pvpanic);
}

static const struct device_ops pvpanic_ops = {
    .name = "pvpanic",
    .version = 1,
    .state_size = sizeof(struct pvpanic_state),
    .save = pvpanic_save,
    .load = pvpanic_load,
    .destroy = pvpanic_destroy,
    .resume = pvpanic_resume,
    .counters = pvpanic_counters,
};

int kvmshim_pvpanic_create(kvmshim_vm *vm, const kvmshim_place *place, kvmshim_device **device,
                           kvmshim_error *err)
{
    int rc = pci_check_place(place, err);
    struct pvpanic *pvpanic;

    if (rc < 0)
        return rc;
    pvpanic = calloc(1, sizeof(*pvpanic));
    if (!pvpanic)
        return error_set(err, -ENOMEM, "%s: allocate", place->id);
    pvpanic->device.vm = vm;
    pvpanic->pci = place->pci;
    pvpanic->devfn = (uint8_t)(place->slot << 3);
    snprintf(pvpanic->id, sizeof(pvpanic->id), "%s", place->id);
    pthread_mutex_init(&pvpanic->lock, NULL);
    pci_config_init(&pvpanic->function.config, &pvpanic_identity);
    pvpanic->function.written = pvpanic_config_written;
    pvpanic->bar = (struct pci_bar){
        .vm = vm,
        .config = &pvpanic->function.config,
        .reg = PCI_BASE_ADDRESS_0,
        .size = BAR_SIZE,
        .ops = &pvpanic_bus_ops,
        .opaque = pvpanic,
    };
    rc = pci_bar_init(&pvpanic->bar, place->bar, err);
    if (rc < 0)
        goto free_pvpanic;
    rc = pci_attach(place->pci, pvpanic->devfn, &pvpanic->function, err);
    if (rc < 0)
        goto free_pvpanic;
    device_register(vm, &pvpanic->device, &pvpanic_ops);
    if (device)
        *device = &pvpanic->device;
    return 0;

free_pvpanic:
    pvpanic_free(pvpanic);
    return rc;
}
