/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every virtio device is: a PCI function with the transport's registers (virtio_pci.c)
 * around a handful of calls of its own.
 *
 * Life: create; then any number of times start, work, stop; destroy. start is the guest's
 * DRIVER_OK or the VM's resume, stop the guest's reset, the VM's pause or its end. Between
 * stop and start nothing of the device touches guest memory or its queues, and no request is
 * in flight, so that is when state is saved, loaded and reset.
 *
 * Locks: every op but those marked runs with `lock` held, in a vCPU's thread or the control
 * thread. A device's own threads never take it: stop waits for them.
 */
#ifndef KVM_SHIM_VIRTIO_DEVICE_H
#define KVM_SHIM_VIRTIO_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "device.h"
#include "kvm_shim_virtio.h"
#include "msix.h"
#include "pci.h"
#include "pci_bar.h"
#include "virtqueue.h"

#define VIRTIO_CONFIG_MAX 256u
#define VIRTIO_QUEUES_MAX 257u /* 128 queue pairs and a control queue */

struct virtio_ops {
    const char *name;     /* "virtio-blk": the kind of its saved state */
    uint16_t type;        /* virtio 1.2, 5 */
    uint32_t class_code;  /* of its PCI function */
    uint32_t version;     /* of its saved state */
    uint32_t state_size;  /* bytes of its own saved state, beyond the transport's; may be 0 */

    /* Process the queues, from where they are. On failure the guest is told by NEEDS_RESET. */
    int (*start)(struct virtio_device *device, kvmshim_error *err);
    /* Complete what is in flight (or put it back: virtqueue_unpop()), publish it and stand
     * still: of a queue that is saved, only where it is. -ETIMEDOUT when that did not work by
     * `deadline_ns` (CLOCK_MONOTONIC); the device runs on then. */
    int (*stop)(struct virtio_device *device, uint64_t deadline_ns);
    /* Free what the device has of its own, its struct included. It is stopped. */
    void (*destroy)(struct virtio_device *device);

    /* The rest may be NULL. */

    /* Own state back to what it was at creation; stopped. */
    void (*reset)(struct virtio_device *device);
    /* The driver wrote [offset, offset + size) of the configuration space; `config` holds it
     * only if this says so by virtio_config_set(). */
    void (*config_written)(struct virtio_device *device, uint32_t offset, const uint8_t *data,
                           uint32_t size);
    /* As in device.h, of `state_size` bytes; stopped. `config`, features and queues hold what
     * was saved already when load is called, and what they held before again if it refuses. */
    void (*save)(struct virtio_device *device, void *state);
    int (*load)(struct virtio_device *device, const void *state, kvmshim_error *err);
    /* Without the lock, from any thread, at any time. */
    void (*counters)(struct virtio_device *device, struct counters *counters);
};

struct virtio_device {
    kvmshim_device device; /* first: it is one */
    struct device_ops device_ops;
    const struct virtio_ops *ops;
    char id[PCI_ID_SIZE];
    kvmshim_device *pci;
    uint8_t devfn;
    struct pci_function function;
    struct pci_bar bar;
    struct msix msix;

    pthread_mutex_t lock;
    uint64_t offered;  /* feature bits */
    uint64_t features; /* negotiated; of meaning from FEATURES_OK on */
    uint32_t device_feature_select, driver_feature_select;
    uint16_t queue_select;
    _Atomic uint16_t config_vector;
    _Atomic uint8_t status;
    _Atomic uint8_t isr;
    _Atomic uint8_t generation;
    bool running;      /* between start and stop */
    bool paused;       /* the VM is */

    pthread_mutex_t config_lock; /* guards `config` alone; nothing is locked under it */
    uint8_t config[VIRTIO_CONFIG_MAX];
    uint32_t config_size;

    _Atomic uint64_t errors;     /* faults of the guest's driver */
    _Atomic uint64_t log_next_ns; /* no line of this device is logged before */
    _Atomic uint32_t log_held;    /* lines held back since the last */

    uint16_t queue_count;
    struct virtqueue *queues;
};

/*
 * Make `device` (zeroed, embedded first in the caller's struct) a device of the VM, its
 * function on the bus and its BAR mapped. The last step of a create function: once it
 * succeeds the guest may use the device. On failure `device` is as before.
 * `features` are the device's own; the transport adds VERSION_1, INDIRECT_DESC, EVENT_IDX.
 */
int virtio_create(struct virtio_device *device, kvmshim_vm *vm, const kvmshim_place *place,
                  const struct virtio_ops *ops, uint64_t features, const void *config,
                  uint32_t config_size, const uint16_t *queue_sizes, uint16_t queue_count,
                  kvmshim_error *err);

/* The device behind a public handle, if it is one of `ops`; NULL and *err otherwise. */
struct virtio_device *virtio_cast(kvmshim_device *device, const struct virtio_ops *ops,
                                  kvmshim_error *err);

static inline bool virtio_has(const struct virtio_device *device, unsigned int bit)
{
    return device->features >> bit & 1;
}

/* Change the configuration space and tell the driver. Any thread. */
void virtio_config_set(struct virtio_device *device, uint32_t offset, const void *data,
                       uint32_t size);

/* Interrupt for a queue; virtqueue_publish() calls it when it is due. Any thread. */
void virtio_interrupt(struct virtqueue *queue);

/* The driver broke the rules, and the device will not go on until it is reset: sets
 * DEVICE_NEEDS_RESET, tells driver and log why. Any thread. */
void virtio_fail(struct virtio_device *device, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Tell the operator something. At most one line a second and device; how many were held
 * back is told by the next. Any thread. */
void virtio_log(struct virtio_device *device, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
