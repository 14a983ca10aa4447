/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_device.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "error.h"
#include "event.h"
#include "virtio_transport.h"

#define STATUS_KNOWN                                                                              \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |           \
     VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)
#define STATE_VERSION 1u /* of the transport's part; in the upper half of the device's */
#define LOG_INTERVAL_NS UINT64_C(1000000000)

/* ---- telling the guest ------------------------------------------------------- */

void virtio_interrupt(struct virtqueue *queue)
{
    struct virtio_device *device = queue->device;

    atomic_fetch_add_explicit(&queue->interrupts, 1, memory_order_relaxed);
    /* Seldom read where there are vectors, so that it is set nearly always. */
    if (!(atomic_load(&device->isr) & 1))
        atomic_fetch_or(&device->isr, 1);
    if (queue->call_fd >= 0)
        eventfd_write(queue->call_fd, 1);
}

static void virtio_config_interrupt(struct virtio_device *device)
{
    int fd = msix_fd(&device->msix, atomic_load(&device->config_vector));

    atomic_fetch_or(&device->isr, VIRTIO_PCI_ISR_CONFIG);
    if (fd >= 0)
        eventfd_write(fd, 1);
}

void virtio_config_set(struct virtio_device *device, uint32_t offset, const void *data,
                       uint32_t size)
{
    bool changed;

    pthread_mutex_lock(&device->config_lock);
    changed = memcmp(device->config + offset, data, size) != 0;
    if (changed) {
        memcpy(device->config + offset, data, size);
        atomic_fetch_add(&device->generation, 1);
    }
    pthread_mutex_unlock(&device->config_lock);
    if (changed && (atomic_load(&device->status) & VIRTIO_CONFIG_S_DRIVER_OK))
        virtio_config_interrupt(device);
}

/* ---- telling the operator ---------------------------------------------------- */

static void virtio_event(struct virtio_device *device, uint32_t kind, const char *text)
{
    kvmshim_event event = {.kind = kind};

    snprintf(event.source, sizeof(event.source), "%s", device->id);
    snprintf(event.text, sizeof(event.text), "%s", text);
    event_post(device->device.vm, &event);
}

static void virtio_log_list(struct virtio_device *device, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void virtio_log_list(struct virtio_device *device, const char *format, va_list arguments)
{
    uint64_t now = machine_now_ns();
    uint64_t next = atomic_load(&device->log_next_ns);
    char text[sizeof(((kvmshim_event *)0)->text)];
    uint32_t held;
    int length;

    if (now < next ||
        !atomic_compare_exchange_strong(&device->log_next_ns, &next, now + LOG_INTERVAL_NS)) {
        atomic_fetch_add(&device->log_held, 1);
        return;
    }
    length = vsnprintf(text, sizeof(text), format, arguments);
    held = atomic_exchange(&device->log_held, 0);
    if (held && length > 0 && (size_t)length < sizeof(text))
        snprintf(text + length, sizeof(text) - (size_t)length, " (and %u more before)", held);
    virtio_event(device, KVMSHIM_EVENT_DEVICE_LOG, text);
}

void virtio_log(struct virtio_device *device, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    virtio_log_list(device, format, arguments);
    va_end(arguments);
}

void virtio_fail(struct virtio_device *device, const char *format, ...)
{
    va_list arguments;
    uint8_t before;

    /* The operator first: who sees that the device gave up finds out why. */
    va_start(arguments, format);
    virtio_log_list(device, format, arguments);
    va_end(arguments);
    atomic_fetch_add(&device->errors, 1);
    for (uint16_t i = 0; i < device->queue_count; i++)
        atomic_store(&device->queues[i].broken, true);
    before = atomic_fetch_or(&device->status, VIRTIO_CONFIG_S_NEEDS_RESET);
    /* Only a driver that is up is told (virtio 1.2, 2.1.2). */
    if ((before & VIRTIO_CONFIG_S_DRIVER_OK) && !(before & VIRTIO_CONFIG_S_NEEDS_RESET))
        virtio_config_interrupt(device);
}

/* ---- life -------------------------------------------------------------------- */

static int virtio_start_queues(struct virtio_device *device, kvmshim_error *err)
{
    for (uint16_t i = 0; i < device->queue_count; i++) {
        if (device->queues[i].enabled) {
            int rc = virtqueue_start(&device->queues[i], err);

            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

static void virtio_stop_queues(struct virtio_device *device)
{
    for (uint16_t i = 0; i < device->queue_count; i++)
        virtqueue_stop(&device->queues[i]);
}

void virtio_start(struct virtio_device *device)
{
    uint8_t status = atomic_load(&device->status);
    kvmshim_error err;

    if (device->running || !(status & VIRTIO_CONFIG_S_DRIVER_OK) ||
        (status & VIRTIO_CONFIG_S_NEEDS_RESET))
        return;
    if (virtio_start_queues(device, &err) < 0 || device->ops->start(device, &err) < 0) {
        virtio_stop_queues(device);
        virtio_fail(device, "%s", err.context);
        return;
    }
    device->running = true;
}

int virtio_stop(struct virtio_device *device, uint64_t deadline_ns)
{
    if (device->running) {
        int rc = device->ops->stop(device, deadline_ns);

        if (rc < 0)
            return rc;
        virtio_stop_queues(device);
        device->running = false;
    }
    return 0;
}

static void virtio_driver_reset(struct virtio_device *device)
{
    bool active = atomic_load(&device->status) & VIRTIO_CONFIG_S_DRIVER_OK;

    /* The driver sees that it was not reset, and may try again. */
    if (virtio_stop(device, machine_now_ns() + VIRTIO_RESET_TIMEOUT_NS) < 0) {
        virtio_fail(device, "I/O in flight does not end: the device cannot be reset");
        return;
    }
    for (uint16_t i = 0; i < device->queue_count; i++)
        virtqueue_reset(&device->queues[i]);
    device->features = 0;
    device->device_feature_select = device->driver_feature_select = 0;
    device->queue_select = 0;
    atomic_store(&device->config_vector, MSIX_NO_VECTOR);
    if (device->ops->reset)
        device->ops->reset(device);
    atomic_store(&device->isr, 0);
    atomic_store(&device->generation, 0);
    atomic_store(&device->status, 0);
    if (active)
        virtio_event(device, KVMSHIM_EVENT_DEVICE_RESET, "");
}

bool virtio_status_valid(uint8_t status)
{
    return !(status & ~STATUS_KNOWN) &&
           (!(status & VIRTIO_CONFIG_S_DRIVER) || (status & VIRTIO_CONFIG_S_ACKNOWLEDGE)) &&
           (!(status & VIRTIO_CONFIG_S_FEATURES_OK) || (status & VIRTIO_CONFIG_S_DRIVER)) &&
           (!(status & VIRTIO_CONFIG_S_DRIVER_OK) || (status & VIRTIO_CONFIG_S_FEATURES_OK));
}

bool virtio_features_ok(const struct virtio_device *device, uint64_t features)
{
    return !(features & ~device->offered) && features >> VIRTIO_F_VERSION_1 & 1;
}

void virtio_status_write(struct virtio_device *device, uint8_t value)
{
    uint8_t before = atomic_load(&device->status);
    uint8_t added;

    if (value == 0) {
        virtio_driver_reset(device);
        return;
    }
    if ((before & ~value & ~VIRTIO_CONFIG_S_NEEDS_RESET) || !virtio_status_valid(value)) {
        atomic_fetch_add(&device->errors, 1);
        virtio_log(device, "the driver set status 0x%02x after 0x%02x: not taken", value, before);
        return;
    }
    added = (uint8_t)(value & ~before & ~VIRTIO_CONFIG_S_NEEDS_RESET);
    if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && !virtio_features_ok(device, device->features)) {
        atomic_fetch_add(&device->errors, 1);
        virtio_log(device, "the driver chose features 0x%llx of 0x%llx: not taken",
                   (unsigned long long)device->features, (unsigned long long)device->offered);
        added &= (uint8_t)~(VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
    }
    atomic_fetch_or(&device->status, added);
    if (added & VIRTIO_CONFIG_S_DRIVER_OK) {
        virtio_event(device, KVMSHIM_EVENT_DEVICE_ACTIVATED, "");
        if (!device->paused)
            virtio_start(device);
    }
}

/* ---- what the VM asks ---------------------------------------------------------- */

static int virtio_pause(kvmshim_device *base, uint64_t deadline_ns)
{
    struct virtio_device *device = (struct virtio_device *)base;
    int rc;

    pthread_mutex_lock(&device->lock);
    rc = virtio_stop(device, deadline_ns);
    device->paused = rc == 0;
    pthread_mutex_unlock(&device->lock);
    if (rc < 0)
        virtio_log(device, "I/O in flight does not end: the VM cannot be paused");
    return rc;
}

static void virtio_resume(kvmshim_device *base)
{
    struct virtio_device *device = (struct virtio_device *)base;
    kvmshim_error err;

    /* A loaded BAR may have been in the way of another that was loaded later. */
    if (pci_bar_follow(&device->bar, &err) < 0)
        virtio_log(device, "%s", err.context);
    pthread_mutex_lock(&device->lock);
    if (msix_resume(&device->msix, &err) < 0)
        virtio_log(device, "%s", err.context);
    device->paused = false;
    virtio_start(device);
    pthread_mutex_unlock(&device->lock);
}

static void virtio_counters(kvmshim_device *base, struct counters *counters)
{
    struct virtio_device *device = (struct virtio_device *)base;

    for (uint16_t i = 0; i < device->queue_count; i++) {
        struct virtqueue *queue = &device->queues[i];

        counters_add(counters, atomic_load(&queue->kicks), "queue%u_notifications", i);
        counters_add(counters, atomic_load(&queue->interrupts), "queue%u_interrupts", i);
        counters_add(counters, atomic_load(&queue->chains), "queue%u_requests", i);
    }
    counters_add(counters, atomic_load(&device->errors), "errors");
    if (device->ops->counters)
        device->ops->counters(device, counters);
}

/* ---- creation ------------------------------------------------------------------ */

static void virtio_free_queues(struct virtio_device *device)
{
    while (device->queue_count)
        virtqueue_free(&device->queues[--device->queue_count]);
    free(device->queues);
    device->queues = NULL;
}

static int virtio_add_queues(struct virtio_device *device, const uint16_t *sizes, uint16_t count,
                             kvmshim_error *err)
{
    device->queues = calloc(count, sizeof(*device->queues));
    if (!device->queues)
        return error_set(err, -ENOMEM, "%s: allocate %u queues", device->id, count);
    while (device->queue_count < count) {
        int rc = virtqueue_init(&device->queues[device->queue_count], device, device->queue_count,
                                sizes[device->queue_count], err);

        if (rc < 0) {
            virtio_free_queues(device);
            return rc;
        }
        device->queue_count++;
    }
    return 0;
}

static void virtio_free(struct virtio_device *device)
{
    virtio_pci_free(device);
    virtio_free_queues(device);
    pthread_mutex_destroy(&device->config_lock);
    pthread_mutex_destroy(&device->lock);
}

static void virtio_destroy(kvmshim_device *base)
{
    struct virtio_device *device = (struct virtio_device *)base;

    /* Nothing may be freed under I/O that still goes on, however long that takes. */
    pthread_mutex_lock(&device->lock);
    while (virtio_stop(device, UINT64_MAX) < 0)
        ;
    pthread_mutex_unlock(&device->lock);
    virtio_free(device);
    device->ops->destroy(device);
}

struct virtio_device *virtio_cast(kvmshim_device *base, const struct virtio_ops *ops,
                                  kvmshim_error *err)
{
    struct virtio_device *device = (struct virtio_device *)base;

    if (base && base->ops->destroy == virtio_destroy && device->ops == ops)
        return device;
    error_set(err, -EINVAL, "a %s is no %s", base ? base->ops->name : "NULL", ops->name);
    return NULL;
}

int virtio_create(struct virtio_device *device, kvmshim_vm *vm, const kvmshim_place *place,
                  const struct virtio_ops *ops, uint64_t features, const void *config,
                  uint32_t config_size, const uint16_t *queue_sizes, uint16_t queue_count,
                  kvmshim_error *err)
{
    int rc = pci_check_place(place, err);

    if (rc < 0)
        return rc;
    if (config_size > VIRTIO_CONFIG_MAX || queue_count == 0 || queue_count > VIRTIO_QUEUES_MAX)
        return error_set(err, -EINVAL, "%s: %u queues, %u bytes of configuration", place->id,
                         queue_count, config_size);
    memcpy(device->id, place->id, strlen(place->id) + 1);
    device->ops = ops;
    device->device.vm = vm;
    device->offered = features | UINT64_C(1) << VIRTIO_F_VERSION_1 |
                      UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC |
                      UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX;
    atomic_store(&device->config_vector, MSIX_NO_VECTOR);
    if (config_size != 0)
        memcpy(device->config, config, config_size);
    device->config_size = config_size;
    rc = virtio_add_queues(device, queue_sizes, queue_count, err);
    if (rc < 0)
        return rc;
    pthread_mutex_init(&device->lock, NULL);
    pthread_mutex_init(&device->config_lock, NULL);
    device->device_ops = (struct device_ops){
        .name = ops->name,
        .version = STATE_VERSION << 16 | ops->version,
        .state_size = virtio_state_size(device),
        .save = virtio_save,
        .load = virtio_load,
        .destroy = virtio_destroy,
        .pause = virtio_pause,
        .resume = virtio_resume,
        .counters = virtio_counters,
    };
    rc = virtio_pci_init(device, place, err);
    if (rc < 0) {
        virtio_free_queues(device);
        pthread_mutex_destroy(&device->config_lock);
        pthread_mutex_destroy(&device->lock);
        return rc;
    }
    device_register(vm, &device->device, &device->device_ops);
    return 0;
}
