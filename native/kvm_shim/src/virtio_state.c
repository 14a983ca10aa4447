/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving and loading a virtio device: the transport's registers, its configuration space, its
 * queues, its MSI-X vectors, and what the device itself adds, in this order.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "virtio_transport.h"

struct virtio_state {
    uint8_t pci[PCI_CONFIG_SIZE];
    uint8_t config[VIRTIO_CONFIG_MAX];
    uint64_t features;
    uint32_t device_feature_select, driver_feature_select;
    uint16_t queue_select, config_vector;
    uint8_t status, isr, generation, reserved;
} __attribute__((packed));

struct virtqueue_state {
    uint64_t desc, avail, used;
    uint16_t size, vector;
    uint16_t next; /* of both rings: what was taken is back while the device stands still */
    uint8_t enabled, reserved;
} __attribute__((packed));

/* The parts of a saved state. */
struct parts {
    struct virtio_state *device;
    struct virtqueue_state *queues;
    struct msix_state *vectors;
    uint8_t *own;
};

static uint32_t own_offset(const struct virtio_device *device)
{
    return (uint32_t)(sizeof(struct virtio_state) +
                      device->queue_count * sizeof(struct virtqueue_state) +
                      (device->queue_count + 1u) * sizeof(struct msix_state));
}

uint32_t virtio_state_size(const struct virtio_device *device)
{
    return own_offset(device) + device->ops->state_size;
}

static struct parts parts_of(const struct virtio_device *device, void *state)
{
    struct parts parts = {.device = state};

    parts.queues = (struct virtqueue_state *)(parts.device + 1);
    parts.vectors = (struct msix_state *)(parts.queues + device->queue_count);
    parts.own = (uint8_t *)state + own_offset(device);
    return parts;
}

/* ---- saving --------------------------------------------------------------------- */

/* All but what the device itself adds. */
static void transport_save(struct virtio_device *device, struct parts parts)
{
    *parts.device = (struct virtio_state){
        .features = device->features,
        .device_feature_select = device->device_feature_select,
        .driver_feature_select = device->driver_feature_select,
        .queue_select = device->queue_select,
        .config_vector = atomic_load(&device->config_vector),
        .status = atomic_load(&device->status),
        .isr = atomic_load(&device->isr),
        .generation = atomic_load(&device->generation),
    };
    memcpy(parts.device->pci, device->function.config.bytes, sizeof(parts.device->pci));
    pthread_mutex_lock(&device->config_lock);
    memcpy(parts.device->config, device->config, sizeof(parts.device->config));
    pthread_mutex_unlock(&device->config_lock);
    for (uint16_t i = 0; i < device->queue_count; i++) {
        const struct virtqueue *queue = &device->queues[i];

        parts.queues[i] = (struct virtqueue_state){
            .desc = queue->desc,
            .avail = queue->avail,
            .used = queue->used,
            .size = queue->size,
            .vector = atomic_load(&queue->vector),
            .next = queue->next_avail,
            .enabled = queue->enabled,
        };
    }
    msix_save(&device->msix, parts.vectors);
}

void virtio_save(kvmshim_device *base, void *state)
{
    struct virtio_device *device = (struct virtio_device *)base;
    struct parts parts = parts_of(device, state);

    pthread_mutex_lock(&device->lock);
    /* It stands still already, except in a VM that was never started. */
    if (virtio_stop(device, machine_now_ns() + VIRTIO_RESET_TIMEOUT_NS) < 0)
        virtio_fail(device, "I/O in flight does not end: the device cannot be saved");
    transport_save(device, parts);
    if (device->ops->save)
        device->ops->save(device, parts.own);
    if (!device->paused)
        virtio_start(device);
    pthread_mutex_unlock(&device->lock);
}

/* ---- checking --------------------------------------------------------------------- */

static bool vector_ok(const struct virtio_device *device, uint16_t vector)
{
    return vector < device->msix.count || vector == MSIX_NO_VECTOR;
}

static int queue_check(const struct virtio_device *device, uint16_t index,
                       const struct virtqueue_state *saved, kvmshim_error *err)
{
    if (saved->size == 0 || saved->size > device->queues[index].size_max ||
        (saved->size & (saved->size - 1)) != 0 || !vector_ok(device, saved->vector) ||
        saved->enabled > 1 || saved->reserved)
        return error_set(err, -EINVAL, "%s state: queue %u of %u entries, vector %u", device->id,
                         index, saved->size, saved->vector);
    return 0;
}

static int transport_check(const struct virtio_device *device, struct parts parts,
                           kvmshim_error *err)
{
    const struct virtio_state *saved = parts.device;
    struct pci_config config = device->function.config;
    int rc;

    rc = pci_config_load(&config, saved->pci, err);
    if (rc < 0)
        return rc;
    if (saved->isr > 3 || saved->reserved || !vector_ok(device, saved->config_vector) ||
        !virtio_status_valid(saved->status))
        return error_set(err, -EINVAL, "%s state: status 0x%02x, ISR 0x%02x, vector %u",
                         device->id, saved->status, saved->isr, saved->config_vector);
    if ((saved->status & VIRTIO_CONFIG_S_FEATURES_OK) &&
        !virtio_features_ok(device, saved->features))
        return error_set(err, -EINVAL, "%s state: features 0x%llx of 0x%llx", device->id,
                         (unsigned long long)saved->features,
                         (unsigned long long)device->offered);
    for (uint16_t i = 0; i < device->queue_count; i++) {
        rc = queue_check(device, i, &parts.queues[i], err);
        if (rc < 0)
            return rc;
    }
    return msix_check(&device->msix, parts.vectors, err);
}

/* ---- loading ---------------------------------------------------------------------- */

/* What cannot fail: registers, configuration, queues. */
static void registers_load(struct virtio_device *device, struct parts parts)
{
    const struct virtio_state *saved = parts.device;

    device->features = saved->features;
    device->device_feature_select = saved->device_feature_select;
    device->driver_feature_select = saved->driver_feature_select;
    device->queue_select = saved->queue_select;
    atomic_store(&device->config_vector, saved->config_vector);
    atomic_store(&device->status, saved->status);
    atomic_store(&device->isr, saved->isr);
    atomic_store(&device->generation, saved->generation);
    pthread_mutex_lock(&device->config_lock);
    memcpy(device->config, saved->config, device->config_size);
    pthread_mutex_unlock(&device->config_lock);
    for (uint16_t i = 0; i < device->queue_count; i++) {
        const struct virtqueue_state *state = &parts.queues[i];
        struct virtqueue *queue = &device->queues[i];

        virtqueue_reset(queue);
        queue->desc = state->desc;
        queue->avail = state->avail;
        queue->used = state->used;
        queue->size = state->size;
        queue->next_avail = queue->next_used = state->next;
        queue->enabled = state->enabled;
        atomic_store(&queue->vector, state->vector);
        atomic_store(&queue->broken, saved->status & VIRTIO_CONFIG_S_NEEDS_RESET);
        queue->call_fd = msix_fd(&device->msix, state->vector);
    }
}

/* The lock is held, and the device stopped. */
static int load_all(struct virtio_device *device, struct parts parts, kvmshim_error *err)
{
    struct parts before;
    void *backup;
    int rc = 0;

    backup = malloc(own_offset(device));
    if (!backup)
        return error_set(err, -ENOMEM, "%s: allocate a copy of the state", device->id);
    before = parts_of(device, backup);
    transport_save(device, before);
    registers_load(device, parts);
    if (device->ops->load)
        rc = device->ops->load(device, parts.own, err);
    if (rc < 0) {
        registers_load(device, before);
    } else {
        rc = pci_config_load(&device->function.config, parts.device->pci, err);
        msix_load(&device->msix, parts.vectors, &device->function.config);
        device->paused = true;
    }
    free(backup);
    return rc;
}

int virtio_load(kvmshim_device *base, const void *state, kvmshim_error *err)
{
    struct virtio_device *device = (struct virtio_device *)base;
    struct parts parts;
    void *copy;
    int rc;

    /* The blob may lie at any address, and belongs to the caller. */
    copy = malloc(virtio_state_size(device));
    if (!copy)
        return error_set(err, -ENOMEM, "%s: allocate a copy of the state", device->id);
    memcpy(copy, state, virtio_state_size(device));
    parts = parts_of(device, copy);
    pthread_mutex_lock(&device->lock);
    rc = transport_check(device, parts, err);
    if (rc == 0 && virtio_stop(device, machine_now_ns() + VIRTIO_RESET_TIMEOUT_NS) < 0)
        rc = error_set(err, -ETIMEDOUT, "%s: I/O in flight does not end", device->id);
    if (rc == 0)
        rc = load_all(device, parts, err);
    pthread_mutex_unlock(&device->lock);
    /* Where another device still is, it comes to be when the VM is resumed. */
    if (rc == 0)
        pci_bar_follow(&device->bar, NULL);
    free(copy);
    return rc;
}
