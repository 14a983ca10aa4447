/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory balloon (virtio 1.2, 5.5). What the guest inflates it with, and what it reports as
 * free, is given back to the host: whoever touches such a page again finds zeroes. So deflating
 * asks nothing of the host, and the guest need not wait for an answer (MUST_TELL_HOST is not
 * offered).
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"
#include "kvm_shim_seccomp.h"
#include "virtio_balloon.h"

enum {
    QUEUE_SIZE = 128,
    SEGMENTS = QUEUE_SIZE,
};

struct balloon_config {
    uint32_t num_pages; /* what the host asks for */
    uint32_t actual;    /* what the guest says it gave */
} __attribute__((packed));

static struct virtio_balloon *balloon_of(struct virtio_device *virtio)
{
    return (struct virtio_balloon *)virtio;
}

/* ---- queues ---------------------------------------------------------------- */

static void balloon_kicked(void *opaque, uint32_t events)
{
    struct balloon_line *line = opaque;
    struct virtqueue *queue = line->queue;
    struct iovec iov[SEGMENTS];
    struct virtqueue_chain chain = {.iov = iov, .capacity = SEGMENTS};
    uint32_t served = 0;

    (void)events;
    virtqueue_kicked(queue);
    /* Once around at a time: a guest that never ceases must not keep the thread to itself. */
    while (served < queue->size && virtqueue_pop(queue, &chain)) {
        line->serve(line->balloon, queue, &chain);
        served++;
    }
    virtqueue_publish(queue);
    if (served == queue->size)
        virtqueue_kick(queue);
}

/*
 * Virtio 1.2 (5.5.2) numbers the queues as if every feature were there; Linux and QEMU count
 * only those that are in use. Which of the two it is shows in what the driver enabled.
 */
static uint16_t balloon_reporting_queue(const struct virtio_device *virtio)
{
    if (virtio->queues[BALLOON_REPORTING].enabled)
        return BALLOON_REPORTING;
    return virtio_has(virtio, VIRTIO_BALLOON_F_STATS_VQ) ? BALLOON_STATS + 1 : BALLOON_STATS;
}

static int balloon_watch(struct virtio_balloon *balloon, uint16_t index, balloon_serve *serve,
                         kvmshim_error *err)
{
    struct balloon_line *line = &balloon->lines[index];
    int rc;

    line->balloon = balloon;
    line->queue = &balloon->virtio.queues[index];
    line->serve = serve;
    rc = io_thread_watch(&balloon->thread, &line->watch, line->queue->kick_fd, EPOLLIN,
                         balloon_kicked, line, err);
    if (rc == 0)
        virtqueue_kick(line->queue);
    return rc;
}

static void balloon_unwatch(struct virtio_balloon *balloon)
{
    for (uint16_t i = 0; i < BALLOON_QUEUES; i++)
        io_thread_forget(&balloon->thread, &balloon->lines[i].watch);
    balloon_stats_stop(balloon);
}

static int balloon_start(struct virtio_device *virtio, kvmshim_error *err)
{
    struct virtio_balloon *balloon = balloon_of(virtio);
    int rc = balloon_watch(balloon, BALLOON_INFLATE, balloon_inflate, err);

    if (rc == 0)
        rc = balloon_watch(balloon, BALLOON_DEFLATE, balloon_deflate, err);
    if (rc == 0 && virtio_has(virtio, VIRTIO_BALLOON_F_REPORTING))
        rc = balloon_watch(balloon, balloon_reporting_queue(virtio), balloon_report, err);
    if (rc == 0 && virtio_has(virtio, VIRTIO_BALLOON_F_STATS_VQ)) {
        rc = balloon_watch(balloon, BALLOON_STATS, balloon_stats_take, err);
        if (rc == 0)
            rc = balloon_stats_start(balloon, err);
    }
    if (rc < 0) {
        balloon_unwatch(balloon);
        return rc;
    }
    io_thread_release(&balloon->thread);
    return 0;
}

static int balloon_stop(struct virtio_device *virtio, uint64_t deadline_ns)
{
    struct virtio_balloon *balloon = balloon_of(virtio);
    int rc = io_thread_hold(&balloon->thread, deadline_ns);

    if (rc == 0)
        balloon_unwatch(balloon);
    return rc;
}

/* ---- configuration and state ----------------------------------------------- */

static struct balloon_config balloon_config_get(struct virtio_device *virtio)
{
    struct balloon_config config;

    pthread_mutex_lock(&virtio->config_lock);
    memcpy(&config, virtio->config, sizeof(config));
    pthread_mutex_unlock(&virtio->config_lock);
    return config;
}

/* Without an interrupt: for what the driver knows, having written it itself, or cannot know. */
static void balloon_config_put(struct virtio_device *virtio, uint32_t offset, const void *data,
                               uint32_t size)
{
    pthread_mutex_lock(&virtio->config_lock);
    memcpy(virtio->config + offset, data, size);
    pthread_mutex_unlock(&virtio->config_lock);
}

static void balloon_config_written(struct virtio_device *virtio, uint32_t offset,
                                   const uint8_t *data, uint32_t size)
{
    const uint32_t first = offsetof(struct balloon_config, actual);

    for (uint32_t i = 0; i < size; i++)
        if (offset + i >= first && offset + i < sizeof(struct balloon_config))
            balloon_config_put(virtio, offset + i, &data[i], 1);
}

static void balloon_reset(struct virtio_device *virtio)
{
    const uint32_t nothing = 0; /* of which the next driver knows */

    balloon_config_put(virtio, offsetof(struct balloon_config, actual), &nothing,
                       sizeof(nothing));
}

static void balloon_counters(struct virtio_device *virtio, struct counters *counters)
{
    struct virtio_balloon *balloon = balloon_of(virtio);
    const struct balloon_config config = balloon_config_get(virtio);

    counters_add(counters, le32toh(config.num_pages) * BALLOON_PAGE, "target_bytes");
    counters_add(counters, le32toh(config.actual) * BALLOON_PAGE, "actual_bytes");
    counters_add(counters, balloon->inflated, "inflated_bytes");
    counters_add(counters, balloon->deflated, "deflated_bytes");
    counters_add(counters, balloon->reported, "reported_bytes");
    counters_add(counters, balloon->kept, "kept_bytes");
    balloon_stats_counters(balloon, counters);
}

/* ---- life ------------------------------------------------------------------ */

static void balloon_free(struct virtio_balloon *balloon)
{
    io_thread_stop(&balloon->thread);
    if (balloon->timer_fd >= 0)
        close(balloon->timer_fd);
    free(balloon);
}

static void balloon_destroy(struct virtio_device *virtio)
{
    balloon_free(balloon_of(virtio));
}

static const struct virtio_ops balloon_ops = {
    .name = "virtio-balloon",
    .type = VIRTIO_ID_BALLOON,
    .class_code = 0xff0000, /* none of PCI's classes */
    .version = 1,
    .start = balloon_start,
    .stop = balloon_stop,
    .destroy = balloon_destroy,
    .reset = balloon_reset,
    .config_written = balloon_config_written,
    .counters = balloon_counters,
};

/* The size as the number of pages that the configuration space has room for. */
static int balloon_pages(uint64_t size, uint32_t *pages, kvmshim_error *err)
{
    if (size % BALLOON_PAGE != 0 || size / BALLOON_PAGE > UINT32_MAX)
        return error_set(err, -EINVAL, "balloon of 0x%" PRIx64 " bytes", size);
    *pages = htole32((uint32_t)(size / BALLOON_PAGE));
    return 0;
}

static uint64_t balloon_features(const kvmshim_balloon_config *config)
{
    uint64_t features = 0;

    if (config->statistics)
        features |= UINT64_C(1) << VIRTIO_BALLOON_F_STATS_VQ;
    if (config->deflate_on_oom)
        features |= UINT64_C(1) << VIRTIO_BALLOON_F_DEFLATE_ON_OOM;
    if (config->free_page_reporting)
        features |= UINT64_C(1) << VIRTIO_BALLOON_F_REPORTING;
    return features;
}

int kvmshim_balloon_create(kvmshim_vm *vm, const kvmshim_place *place,
                           const kvmshim_balloon_config *config, kvmshim_device **device,
                           kvmshim_error *err)
{
    static const uint16_t queue_sizes[BALLOON_QUEUES] = {
        QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE,
    };
    struct balloon_config initial = {0};
    uint16_t queues = BALLOON_STATS;
    struct virtio_balloon *balloon;
    uint32_t pages = 0;
    int rc;

    rc = balloon_pages(config->size, &pages, err);
    if (rc < 0)
        return rc;
    initial.num_pages = pages;
    if (config->statistics)
        queues = BALLOON_STATS + 1;
    if (config->free_page_reporting)
        queues = BALLOON_QUEUES;
    balloon = calloc(1, sizeof(*balloon));
    if (balloon == NULL)
        return error_set(err, -ENOMEM, "balloon: allocate");
    balloon->timer_fd = -1;
    if (config->statistics) {
        balloon->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (balloon->timer_fd < 0) {
            rc = error_set(err, -errno, "balloon: create a timer");
            goto fail;
        }
    }
    rc = io_thread_start(&balloon->thread, vm, KVMSHIM_THREAD_BALLOON, "balloon", err);
    if (rc == 0)
        rc = virtio_create(&balloon->virtio, vm, place, &balloon_ops,
                           balloon_features(config), &initial, sizeof(initial), queue_sizes,
                           queues, err);
    if (rc < 0)
        goto fail;
    if (device != NULL)
        *device = &balloon->virtio.device;
    return 0;

fail:
    balloon_free(balloon);
    return rc;
}

int kvmshim_balloon_resize(kvmshim_device *balloon, uint64_t size, kvmshim_error *err)
{
    struct virtio_device *virtio = virtio_cast(balloon, &balloon_ops, err);
    uint32_t pages = 0;
    int rc;

    if (virtio == NULL)
        return -EINVAL;
    rc = balloon_pages(size, &pages, err);
    if (rc == 0)
        virtio_config_set(virtio, offsetof(struct balloon_config, num_pages), &pages,
                          sizeof(pages));
    return rc;
}

int kvmshim_balloon_actual(kvmshim_device *balloon, uint64_t *size, kvmshim_error *err)
{
    struct virtio_device *virtio = virtio_cast(balloon, &balloon_ops, err);

    if (virtio == NULL)
        return -EINVAL;
    *size = le32toh(balloon_config_get(virtio).actual) * BALLOON_PAGE;
    return 0;
}
