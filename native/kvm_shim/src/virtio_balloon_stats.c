/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest tells about its memory (virtio 1.2, 5.5.6.3): a buffer that it fills and the
 * device keeps; the guest fills it anew each time it gets it back.
 */
#include <endian.h>
#include <linux/virtio_balloon.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "virtio_balloon.h"

enum {
    STATS_MAX = 64, /* in one buffer */
    INTERVAL_S = 5,
};

/* By tag: those of virtio 1.2, 5.5.6.4, and what Linux 6.12 added. */
static const char *const names[BALLOON_TAGS] = {
    "swap_in_bytes",
    "swap_out_bytes",
    "major_faults",
    "minor_faults",
    "free_bytes",
    "total_bytes",
    "available_bytes",
    "disk_caches_bytes",
    "hugetlb_allocations",
    "hugetlb_failures",
    "oom_kills",
    "allocation_stalls",
    "scanned_async_pages",
    "scanned_direct_pages",
    "reclaimed_async_pages",
    "reclaimed_direct_pages",
};

void balloon_stats_take(struct virtio_balloon *balloon, struct virtqueue *queue,
                        const struct virtqueue_chain *chain)
{
    struct virtio_balloon_stat stats[STATS_MAX];
    uint64_t count = virtqueue_read(chain, 0, stats, sizeof(stats)) / sizeof(stats[0]);

    for (uint64_t i = 0; i < count; i++) {
        uint16_t tag = le16toh(stats[i].tag);

        if (tag < BALLOON_TAGS) {
            balloon->stats[tag] = le64toh(stats[i].val);
            balloon->stats_told |= UINT32_C(1) << tag;
        }
    }
    if (balloon->holding) /* one buffer is all there should be */
        virtqueue_push(queue, balloon->held, 0);
    balloon->holding = true;
    balloon->held = chain->head;
}

static void balloon_stats_due(void *opaque, uint32_t events)
{
    struct virtio_balloon *balloon = opaque;
    struct virtqueue *queue = &balloon->virtio.queues[BALLOON_STATS];
    uint64_t expirations;

    (void)events;
    if (read(balloon->timer_fd, &expirations, sizeof(expirations)) < 0 || !balloon->holding)
        return;
    balloon->holding = false;
    virtqueue_push(queue, balloon->held, 0);
    virtqueue_publish(queue);
}

static void balloon_stats_set_timer(struct virtio_balloon *balloon, time_t seconds)
{
    const struct itimerspec every = {
        .it_value.tv_sec = seconds,
        .it_interval.tv_sec = seconds,
    };

    timerfd_settime(balloon->timer_fd, 0, &every, NULL);
}

int balloon_stats_start(struct virtio_balloon *balloon, kvmshim_error *err)
{
    int rc = io_thread_watch(&balloon->thread, &balloon->timer, balloon->timer_fd, EPOLLIN,
                             balloon_stats_due, balloon, err);

    if (rc == 0)
        balloon_stats_set_timer(balloon, INTERVAL_S);
    return rc;
}

void balloon_stats_stop(struct virtio_balloon *balloon)
{
    if (balloon->timer_fd < 0)
        return;
    balloon_stats_set_timer(balloon, 0);
    io_thread_forget(&balloon->thread, &balloon->timer);
    if (balloon->holding)
        virtqueue_unpop(&balloon->virtio.queues[BALLOON_STATS], 1);
    balloon->holding = false;
}

void balloon_stats_counters(struct virtio_balloon *balloon, struct counters *counters)
{
    const uint32_t told = balloon->stats_told;

    for (uint32_t tag = 0; tag < BALLOON_TAGS; tag++)
        if (told >> tag & 1)
            counters_add(counters, balloon->stats[tag], "guest_%s", names[tag]);
}
