/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport: configuration space, BAR, vectors, status and saved states of a device that
 * does nothing but give back what it is given. The driver is the input.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "error.h"
#include "io_thread.h"
#include "kvm_shim_seccomp.h"
#include "virtio.h"

enum { QUEUES = 3, CONFIG_SIZE = 12, FEATURE = 5 };

struct echo {
    struct virtio_device virtio;
    struct io_thread thread;
    struct io_watch kicks[QUEUES];
    uint32_t resets;
};

struct echo_state {
    uint32_t resets;
} __attribute__((packed));

static void echo_kicked(void *opaque, uint32_t events)
{
    struct virtqueue *queue = opaque;
    struct iovec iov[8];
    struct virtqueue_chain chain = {.iov = iov, .capacity = 8};

    FUZZ_CHECK(events & EPOLLIN);
    virtqueue_kicked(queue);
    while (virtqueue_pop(queue, &chain))
        virtqueue_push(queue, chain.head, (uint32_t)chain.writable_bytes);
    virtqueue_publish(queue);
}

static int echo_start(struct virtio_device *device, kvmshim_error *err)
{
    struct echo *echo = (struct echo *)device;

    for (uint16_t i = 0; i < QUEUES; i++) {
        io_thread_watch(&echo->thread, &echo->kicks[i], device->queues[i].kick_fd, EPOLLIN,
                        echo_kicked, &device->queues[i], err);
        virtqueue_kick(&device->queues[i]);
    }
    io_thread_release(&echo->thread);
    return 0;
}

static int echo_stop(struct virtio_device *device, uint64_t deadline_ns)
{
    return io_thread_hold(&((struct echo *)device)->thread, deadline_ns);
}

static void echo_reset(struct virtio_device *device)
{
    FUZZ_CHECK(!device->running);
    ((struct echo *)device)->resets++;
}

static void echo_config_written(struct virtio_device *device, uint32_t offset,
                                const uint8_t *data, uint32_t size)
{
    FUZZ_CHECK(size && offset + size <= CONFIG_SIZE);
    virtio_config_set(device, offset, data, size);
}

static void echo_save(struct virtio_device *device, void *state)
{
    FUZZ_CHECK(!device->running);
    ((struct echo_state *)state)->resets = ((struct echo *)device)->resets;
}

static int echo_load(struct virtio_device *device, const void *state, kvmshim_error *err)
{
    const struct echo_state *saved = state;

    FUZZ_CHECK(!device->running);
    if (saved->resets >> 31)
        return error_set(err, -EINVAL, "resets");
    ((struct echo *)device)->resets = saved->resets;
    return 0;
}

static void echo_destroy(struct virtio_device *device)
{
    io_thread_stop(&((struct echo *)device)->thread);
    free(device);
}

static const struct virtio_ops echo_ops = {
    .name = "virtio-echo",
    .type = 4,
    .class_code = 0xff0000,
    .version = 1,
    .state_size = sizeof(struct echo_state),
    .start = echo_start,
    .stop = echo_stop,
    .destroy = echo_destroy,
    .reset = echo_reset,
    .config_written = echo_config_written,
    .save = echo_save,
    .load = echo_load,
};

static void count(kvmshim_device *device)
{
    kvmshim_counter entries[32];
    struct counters counters = {.entries = entries, .capacity = 32};

    device->ops->counters(device, &counters);
    FUZZ_CHECK(counters.count == 3 * QUEUES + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint16_t queue_sizes[QUEUES] = {16, 4, 1024};
    static const uint8_t config[CONFIG_SIZE] = {1, 2, 3};
    kvmshim_vm vm = {0};
    kvmshim_place place;
    struct echo *echo = calloc(1, sizeof(*echo));

    fuzz_virtio_begin(&vm);
    place = fuzz_place(&vm, 1);
    FUZZ_CHECK(io_thread_start(&echo->thread, &vm, KVMSHIM_THREAD_RNG, "echo", NULL) == 0);
    FUZZ_CHECK(virtio_create(&echo->virtio, &vm, &place, &echo_ops, 1u << FEATURE, config,
                             CONFIG_SIZE, queue_sizes, QUEUES, NULL) == 0);
    /* Half of the inputs begin where a driver has done its work. */
    if (size && data[0] & 1)
        fuzz_virtio_ready(&vm, &echo->virtio.device, UINT64_MAX);
    if (size)
        fuzz_virtio_play(&vm, &echo->virtio.device, data + 1, size - 1, NULL, NULL);
    count(&echo->virtio.device);
    fuzz_end(&vm);
    return 0;
}
