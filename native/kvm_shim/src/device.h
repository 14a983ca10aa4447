/* SPDX-License-Identifier: Apache-2.0 */
/* What every device model is: its place in the VM and the calls the VM makes on it. */
#ifndef KVM_SHIM_DEVICE_H
#define KVM_SHIM_DEVICE_H

#include <stdint.h>

#include "counters.h"
#include "kvm_shim.h"

struct device_ops {
    const char *name;   /* also the `source` of its events and the tag of its saved state */
    uint32_t version;   /* of the saved state */
    uint32_t state_size; /* bytes of the saved state, fixed for a version */
    /* `state` has state_size bytes. load checks every field before it changes anything
     * and returns -EINVAL with a context. */
    void (*save)(kvmshim_device *device, void *state);
    int (*load)(kvmshim_device *device, const void *state, kvmshim_error *err);
    /* Stop and join threads, close fds, remove bus regions, free the device. */
    void (*destroy)(kvmshim_device *device);
    /* Optional: called after the vCPUs parked / before they run again. When one device cannot
     * pause by `deadline_ns` (-ETIMEDOUT), those that did are resumed and the VM runs on. */
    int (*pause)(kvmshim_device *device, uint64_t deadline_ns);
    void (*resume)(kvmshim_device *device);
    /* Optional: from any thread at any time. */
    void (*counters)(kvmshim_device *device, struct counters *counters);
};

/* The first member of every device's own struct. */
struct kvmshim_device {
    const struct device_ops *ops;
    kvmshim_vm *vm;
    kvmshim_device *next; /* the VM's list, newest first: destroyed in that order */
};

/* Hand a complete device to the VM. */
void device_register(kvmshim_vm *vm, kvmshim_device *device, const struct device_ops *ops);

/* ---- what a device may ask of its machine -------------------------------- */

/* Raise or lower an interrupt pin. Cannot fail for a pin below 24. */
void machine_irq(kvmshim_vm *vm, uint32_t gsi, int level);

/*
 * Queue an event for the control plane. KVMSHIM_EVENT_RESET, _POWER_OFF and _GUEST_PANIC
 * also park every vCPU for good before the calling vCPU runs another instruction; only
 * the first such event is queued.
 */
void machine_event(kvmshim_vm *vm, uint32_t kind, const char *source);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t machine_now_ns(void);

#endif
