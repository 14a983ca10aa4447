/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue engine: a device that takes, reads, writes, gives back in any order and puts back
 * whatever the input says, on rings that the input writes as it likes.
 */
#include <stdlib.h>
#include <string.h>

#include "virtio.h"

enum {
    QUEUES = 2,
    SEGMENTS = 24,
    ACTION_POP = ACTION_TARGET, /* data[0]: how many segments the device takes at most */
    ACTION_PUSH,                /* data[0]: which of those in flight; data[4..7]: written */
    ACTION_UNPOP,               /* data[0]: how many */
    ACTION_PUBLISH,
    ACTION_KICKS,               /* data[0]: bit 0 enable, or disable */
};

struct loose {
    struct virtio_device virtio;
    struct flight {
        uint16_t heads[VIRTQUEUE_SIZE_MAX];
        uint32_t count, last; /* in flight; the latest of them that were popped in a row */
    } flights[QUEUES];
};

static void push(struct virtqueue *queue, struct flight *flight, uint32_t number,
                 uint32_t written)
{
    virtqueue_push(queue, flight->heads[number], written);
    flight->count--;
    memmove(&flight->heads[number], &flight->heads[number + 1],
            (flight->count - number) * sizeof(flight->heads[0]));
    /* What was popped before this one cannot be put back any more. */
    if (flight->last > flight->count - number)
        flight->last = flight->count - number;
}

static int loose_start(struct virtio_device *device, kvmshim_error *err)
{
    FUZZ_CHECK(device->queues && (!err || !device->running));
    return 0;
}

static int loose_stop(struct virtio_device *device, uint64_t deadline_ns)
{
    struct loose *loose = (struct loose *)device;

    FUZZ_CHECK(deadline_ns != 0);
    for (uint16_t i = 0; i < QUEUES; i++) {
        while (loose->flights[i].count)
            push(&device->queues[i], &loose->flights[i], 0, 0);
        virtqueue_publish(&device->queues[i]);
    }
    return 0;
}

static void loose_destroy(struct virtio_device *device)
{
    free(device);
}

static const struct virtio_ops loose_ops = {
    .name = "virtio-loose",
    .type = 4,
    .class_code = 0xff0000,
    .version = 1,
    .start = loose_start,
    .stop = loose_stop,
    .destroy = loose_destroy,
};

/* Segments are within RAM, in order, and add up; each byte can be read or written. */
static void check_chain(const struct virtqueue_chain *chain)
{
    uint64_t bytes[2] = {0};
    uint8_t data[64];

    FUZZ_CHECK(chain->readable + chain->writable != 0 &&
               chain->readable + chain->writable <= chain->capacity);
    for (uint32_t i = 0; i < chain->readable + chain->writable; i++) {
        FUZZ_CHECK(chain->iov[i].iov_len != 0);
        bytes[i >= chain->readable] += chain->iov[i].iov_len;
    }
    FUZZ_CHECK(bytes[0] == chain->readable_bytes && bytes[1] == chain->writable_bytes);
    for (uint64_t at = 0, length; at < bytes[0]; at += length) {
        length = virtqueue_read(chain, at, data, sizeof(data));
        FUZZ_CHECK(length == (bytes[0] - at < sizeof(data) ? bytes[0] - at : sizeof(data)));
    }
    FUZZ_CHECK(virtqueue_read(chain, bytes[0], data, 1) == 0);
    if (bytes[1] < 4096)
        FUZZ_CHECK(virtqueue_write(chain, 0, data, sizeof(data)) ==
                   (bytes[1] < sizeof(data) ? bytes[1] : sizeof(data)));
}

static void pop(struct loose *loose, uint16_t index, uint8_t capacity)
{
    struct virtqueue *queue = &loose->virtio.queues[index];
    struct flight *flight = &loose->flights[index];
    struct iovec *iov = calloc((size_t)capacity % SEGMENTS + 1, sizeof(*iov));
    struct virtqueue_chain chain = {.iov = iov, .capacity = capacity % SEGMENTS + 1u};

    if (virtqueue_pop(queue, &chain)) {
        FUZZ_CHECK(chain.head < queue->size && flight->count < queue->size);
        for (uint32_t i = 0; i < flight->count; i++)
            FUZZ_CHECK(flight->heads[i] != chain.head);
        flight->heads[flight->count++] = chain.head;
        flight->last++;
        check_chain(&chain);
    }
    free(iov);
}

static void act(void *opaque, const struct fuzz_record *record)
{
    struct loose *loose = opaque;
    uint16_t index = record->region % QUEUES;
    struct virtqueue *queue = &loose->virtio.queues[index];
    struct flight *flight = &loose->flights[index];
    uint32_t written;

    if (!loose->virtio.running)
        return;
    switch (record->action) {
    case ACTION_POP:
        pop(loose, index, record->data[0]);
        break;
    case ACTION_PUSH:
        memcpy(&written, record->data + 4, sizeof(written));
        if (flight->count)
            push(queue, flight, record->data[0] % flight->count, written);
        break;
    case ACTION_UNPOP:
        if (flight->last) {
            uint32_t count = record->data[0] % flight->last + 1;

            virtqueue_unpop(queue, (uint16_t)count);
            flight->count -= count;
            flight->last -= count;
        }
        break;
    case ACTION_PUBLISH:
        virtqueue_publish(queue);
        break;
    case ACTION_KICKS:
        if (record->data[0] & 1)
            virtqueue_enable_kicks(queue);
        else
            virtqueue_disable_kicks(queue);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint16_t queue_sizes[QUEUES] = {16, 4};
    kvmshim_vm vm = {0};
    kvmshim_place place;
    struct loose *loose = calloc(1, sizeof(*loose));

    fuzz_virtio_begin(&vm);
    place = fuzz_place(&vm, 1);
    FUZZ_CHECK(virtio_create(&loose->virtio, &vm, &place, &loose_ops, 0, NULL, 0, queue_sizes,
                             QUEUES, NULL) == 0);
    fuzz_virtio_ready(&vm, &loose->virtio.device, size && data[0] & 1 ? UINT64_MAX : 0);
    if (size) /* with indirect tables, or without */
        fuzz_virtio_play(&vm, &loose->virtio.device, data + 1, size - 1, act, loose);
    fuzz_end(&vm);
    return 0;
}
