/* SPDX-License-Identifier: Apache-2.0 */
/* The memory balloon: its state, what is done with pages, and the guest's statistics. */
#ifndef KVM_SHIM_VIRTIO_BALLOON_H
#define KVM_SHIM_VIRTIO_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "io_thread.h"
#include "virtio_device.h"

#define BALLOON_PAGE_SHIFT 12 /* of the balloon, whatever the guest's pages are */
#define BALLOON_PAGE (UINT64_C(1) << BALLOON_PAGE_SHIFT)

enum { /* queues; but see balloon_reporting_queue() */
    BALLOON_INFLATE = 0,
    BALLOON_DEFLATE = 1,
    BALLOON_STATS = 2,
    BALLOON_REPORTING = 4,
    BALLOON_QUEUES = 5,
};

enum { BALLOON_TAGS = 16 }; /* kinds of statistics */

struct virtio_balloon;

typedef void balloon_serve(struct virtio_balloon *balloon, struct virtqueue *queue,
                           const struct virtqueue_chain *chain);

/* A queue that the driver set up, and what is done with its chains. */
struct balloon_line {
    struct virtio_balloon *balloon;
    struct virtqueue *queue;
    balloon_serve *serve;
    struct io_watch watch;
};

struct virtio_balloon {
    struct virtio_device virtio;
    struct io_thread thread;
    struct balloon_line lines[BALLOON_QUEUES];

    int timer_fd; /* statistics are due; -1: never */
    struct io_watch timer;
    bool holding;  /* the guest's statistics buffer, */
    uint16_t held; /* of this head */

    _Atomic uint64_t inflated, deflated, reported, kept; /* bytes */
    _Atomic uint64_t stats[BALLOON_TAGS];
    _Atomic uint32_t stats_told; /* bits: the guest has told that one */
};

/* Serve the inflate, the deflate and the reporting queue. */
balloon_serve balloon_inflate, balloon_deflate, balloon_report;

/* Serve the statistics queue: keep what the guest tells, and its buffer. */
balloon_serve balloon_stats_take;
/* Ask the guest every few seconds, or not any more: the buffer is left to the next start then,
 * here or wherever the state goes. The thread is held. */
int balloon_stats_start(struct virtio_balloon *balloon, kvmshim_error *err);
void balloon_stats_stop(struct virtio_balloon *balloon);
void balloon_stats_counters(struct virtio_balloon *balloon, struct counters *counters);

#endif
