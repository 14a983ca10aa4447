/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A watchdog as Cloud Hypervisor has it (device type 35; it is in no specification): the
 * guest comes by by putting a buffer into the one queue and gets it back at once, a byte of it
 * written where it has room. From the first one on the next must come within the timeout, or
 * the VM is reset. Time in which the device stands still, as while the VM is paused, does not
 * count.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"
#include "io_thread.h"
#include "kvm_shim_seccomp.h"
#include "virtio_device.h"

enum { VIRTIO_ID_WATCHDOG = 35, QUEUE_SIZE = 8 };

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

struct watchdog {
    struct virtio_device virtio;
    struct io_thread thread;
    struct io_watch queue_watch, timer_watch;
    int timer; /* runs while the device does and the guest has begun */
    uint64_t timeout_ns;
    bool begun;
    uint64_t left_ns; /* while stopped: of the timer */
    _Atomic uint64_t visits;
};

struct watchdog_state {
    uint8_t begun;
    uint64_t left_ns;
} __attribute__((packed));

/* 0 stops the timer. */
static void watchdog_set(struct watchdog *watchdog, uint64_t ns)
{
    const struct itimerspec timer = {
        .it_value.tv_sec = (time_t)(ns / NS_PER_S),
        .it_value.tv_nsec = (long)(ns % NS_PER_S),
    };

    timerfd_settime(watchdog->timer, 0, &timer, NULL);
}

/* What the timer has left; 1 if it has run out and nobody has acted upon it. */
static uint64_t watchdog_left(const struct watchdog *watchdog)
{
    struct itimerspec timer;
    uint64_t ns;

    timerfd_gettime(watchdog->timer, &timer);
    ns = (uint64_t)timer.it_value.tv_sec * NS_PER_S + (uint64_t)timer.it_value.tv_nsec;
    return ns ? ns : 1;
}

/* Give the guest its buffers back, and say whether there were any. */
static bool watchdog_serve(struct watchdog *watchdog)
{
    struct virtqueue *queue = &watchdog->virtio.queues[0];
    struct iovec iov[QUEUE_SIZE];
    struct virtqueue_chain chain = {.iov = iov, .capacity = QUEUE_SIZE};
    const uint8_t seen = 1;
    uint32_t count = 0;

    virtqueue_kicked(queue);
    /* No more than the queue holds: a guest that never stops does not keep us here. */
    while (count < QUEUE_SIZE && virtqueue_pop(queue, &chain)) {
        virtqueue_push(queue, chain.head, (uint32_t)virtqueue_write(&chain, 0, &seen, 1));
        count++;
    }
    virtqueue_publish(queue);
    atomic_fetch_add(&watchdog->visits, count);
    if (count == QUEUE_SIZE)
        virtqueue_kick(queue);
    if (count == 0)
        return false;
    watchdog->begun = true;
    watchdog_set(watchdog, watchdog->timeout_ns);
    return true;
}

static void watchdog_kicked(void *opaque, uint32_t events)
{
    (void)events;
    watchdog_serve(opaque);
}

static void watchdog_expired(void *opaque, uint32_t events)
{
    struct watchdog *watchdog = opaque;
    uint64_t drained;

    (void)events;
    /* Not if a kick re-armed it after both were reported; nor if the guest came in time and
     * it was us who were late. */
    if (read(watchdog->timer, &drained, sizeof(drained)) < 0 || watchdog_serve(watchdog))
        return;
    machine_event(watchdog->virtio.device.vm, KVMSHIM_EVENT_RESET, watchdog->virtio.id);
}

/* ---- life ----------------------------------------------------------------------- */

static int watchdog_start(struct virtio_device *device, kvmshim_error *err)
{
    struct watchdog *watchdog = (struct watchdog *)device;
    int rc;

    rc = io_thread_watch(&watchdog->thread, &watchdog->queue_watch, device->queues[0].kick_fd,
                         EPOLLIN, watchdog_kicked, watchdog, err);
    if (rc < 0)
        return rc;
    if (watchdog->begun)
        watchdog_set(watchdog, watchdog->left_ns);
    io_thread_release(&watchdog->thread);
    virtqueue_kick(&device->queues[0]);
    return 0;
}

static int watchdog_stop(struct virtio_device *device, uint64_t deadline_ns)
{
    struct watchdog *watchdog = (struct watchdog *)device;
    int rc = io_thread_hold(&watchdog->thread, deadline_ns);

    if (rc < 0)
        return rc;
    io_thread_forget(&watchdog->thread, &watchdog->queue_watch);
    if (watchdog->begun)
        watchdog->left_ns = watchdog_left(watchdog);
    watchdog_set(watchdog, 0);
    return 0;
}

static void watchdog_free(struct watchdog *watchdog)
{
    io_thread_stop(&watchdog->thread);
    if (watchdog->timer >= 0)
        close(watchdog->timer);
    free(watchdog);
}

static void watchdog_destroy(struct virtio_device *device)
{
    watchdog_free((struct watchdog *)device);
}

static void watchdog_reset(struct virtio_device *device)
{
    struct watchdog *watchdog = (struct watchdog *)device;

    watchdog->begun = false;
    watchdog->left_ns = 0;
}

static void watchdog_save(struct virtio_device *device, void *state)
{
    struct watchdog *watchdog = (struct watchdog *)device;
    struct watchdog_state *saved = state;

    saved->begun = watchdog->begun;
    saved->left_ns = watchdog->left_ns;
}

static int watchdog_load(struct virtio_device *device, const void *state, kvmshim_error *err)
{
    struct watchdog *watchdog = (struct watchdog *)device;
    const struct watchdog_state *saved = state;

    if (saved->begun > 1 || saved->left_ns > watchdog->timeout_ns ||
        (saved->begun == 1) != (saved->left_ns > 0))
        return error_set(err, -EINVAL, "%s state: begun %u, %llu ns left", device->id,
                         saved->begun, (unsigned long long)saved->left_ns);
    watchdog->begun = saved->begun;
    watchdog->left_ns = saved->left_ns;
    return 0;
}

static void watchdog_counters(struct virtio_device *device, struct counters *counters)
{
    struct watchdog *watchdog = (struct watchdog *)device;

    counters_add(counters, atomic_load(&watchdog->visits), "visits");
}

static const struct virtio_ops watchdog_ops = {
    .name = "virtio-watchdog",
    .type = VIRTIO_ID_WATCHDOG,
    .class_code = 0xff0000, /* of no defined class */
    .version = 1,
    .state_size = sizeof(struct watchdog_state),
    .start = watchdog_start,
    .stop = watchdog_stop,
    .destroy = watchdog_destroy,
    .reset = watchdog_reset,
    .save = watchdog_save,
    .load = watchdog_load,
    .counters = watchdog_counters,
};

int kvmshim_watchdog_create(kvmshim_vm *vm, const kvmshim_place *place, uint32_t timeout_ms,
                            kvmshim_device **device, kvmshim_error *err)
{
    const uint16_t sizes[] = {QUEUE_SIZE};
    int rc = pci_check_place(place, err);
    struct watchdog *watchdog;

    if (rc < 0)
        return rc;
    if (timeout_ms == 0)
        return error_set(err, -EINVAL, "%s: a timeout of 0 ms", place->id);
    watchdog = calloc(1, sizeof(*watchdog));
    if (!watchdog)
        return error_set(err, -ENOMEM, "%s: allocate", place->id);
    watchdog->timeout_ns = timeout_ms * NS_PER_MS;
    watchdog->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (watchdog->timer < 0) {
        rc = error_set(err, -errno, "%s: create timerfd", place->id);
        goto free_watchdog;
    }
    rc = io_thread_start(&watchdog->thread, vm, KVMSHIM_THREAD_WATCHDOG, "watchdog-io", err);
    if (rc < 0)
        goto free_watchdog;
    rc = io_thread_watch(&watchdog->thread, &watchdog->timer_watch, watchdog->timer, EPOLLIN,
                         watchdog_expired, watchdog, err);
    if (rc < 0)
        goto free_watchdog;
    rc = virtio_create(&watchdog->virtio, vm, place, &watchdog_ops, 0, NULL, 0, sizes, 1, err);
    if (rc < 0)
        goto free_watchdog;
    if (device)
        *device = &watchdog->virtio.device;
    return 0;

free_watchdog:
    watchdog_free(watchdog);
    return rc;
}
