/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A balloon driver. It owns "pages=N" pages from POOL on, all of them touched, and gives up as
 * many as it is asked for, for ever, counting its rounds. Pages that come back must be zero;
 * how many were is counted 8 bytes behind the rounds.
 *
 * "report=N" reports the pool's first N pages as free, at the queue's number by Linux, or by the
 * specification with "standard=1". "hostile=1" gives up what it does not have, before it begins.
 */
#include "runtime/cmdline.h"
#include "runtime/uart.h"
#include "runtime/virtio.h"

enum {
    POOL = 0x800000,
    PAGE = 4096,
    BATCH = 64,
    STATS = 3,
    TOUCHED = 0x55,

    CONFIG_PAGES = 0,
    CONFIG_ACTUAL = 4,
    FEATURE_STATS = 1,
    FEATURE_REPORTING = 5,
};

struct stat {
    uint16_t tag;
    uint64_t value;
} __attribute__((packed));

static struct virtio balloon;
static struct queue inflate, deflate, stats, report;
static uint32_t pfns[BATCH];
static struct stat statistics[STATS];
static uint32_t stats_given;

void guest_main(const struct start_info *info);

static bool has(uint32_t feature)
{
    return balloon.features >> feature & 1;
}

static volatile uint64_t *page(uint32_t number)
{
    return mmio64(POOL + (uintptr_t)number * PAGE);
}

/* Give a buffer to the device and wait until it is back. */
static void submit(struct queue *queue, const volatile void *data, uint32_t size, uint16_t flags)
{
    queue_add(queue, queue_buffer(queue, data, size, flags));
    queue_kick(queue);
    queue_wait(queue, NULL);
}

/* Downwards, as an allocator may: pages number `first` and those after it. */
static void move(struct queue *queue, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        pfns[i] = POOL / PAGE + first + count - 1 - i;
    submit(queue, pfns, count * (uint32_t)sizeof(pfns[0]), 0);
}

static void touch(uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        if (*page(i) == 0)
            ++*mmio64(COUNTERS + 8);
        *page(i) = TOUCHED;
    }
}

/* Tags 4 (free memory) and 3 (faults), and one that nobody knows. */
static void give_stats(void)
{
    stats_given++;
    statistics[0] = (struct stat){.tag = 4, .value = 0x100000 + stats_given};
    statistics[1] = (struct stat){.tag = 3, .value = 7};
    statistics[2] = (struct stat){.tag = 999, .value = 9};
    queue_add(&stats, queue_buffer(&stats, statistics, sizeof(statistics), 0));
    queue_kick(&stats);
}

static void be_hostile(void)
{
    static const uint32_t wild[] = {
        0xffffffff, 0xe8000, 0xfee00, 0x100000, 0, 0xc0000, 0x12345678, 0x7fffffff,
    };

    submit(&deflate, wild, sizeof(wild), 0);
    for (uint32_t i = 1; i < sizeof(wild) / sizeof(wild[0]); i++)
        pfns[i] = wild[i] == 0 ? 0xfffffffe : wild[i];
    pfns[0] = wild[0];
    submit(&inflate, pfns, sizeof(wild), 0);
    submit(&inflate, pfns, 3, 0);             /* no whole number */
    submit(&inflate, pfns, 16, DESC_WRITE);   /* nothing to read */
    submit(&deflate, pfns, 1, DESC_WRITE);
    submit(&inflate, mmio8(0), 1 << 20, 0);   /* all of low memory as numbers */
    put_text("hostile\n");
}

void guest_main(const struct start_info *info)
{
    uint32_t pages = cmdline_number(info, "pages=", 256);
    uint32_t reported = cmdline_number(info, "report=", 0);
    uint16_t reporting_queue;
    uint32_t actual = 0;

    virtio_find(&balloon, VIRTIO_BALLOON, 0);
    virtio_negotiate(&balloon, 0x3f);
    reporting_queue = has(FEATURE_STATS) ? 3 : 2;
    if (cmdline_number(info, "standard=", 0))
        reporting_queue = 4;
    virtio_queue(&balloon, &inflate, 0, NO_VECTOR);
    virtio_queue(&balloon, &deflate, 1, NO_VECTOR);
    if (has(FEATURE_STATS))
        virtio_queue(&balloon, &stats, 2, NO_VECTOR);
    if (has(FEATURE_REPORTING))
        virtio_queue(&balloon, &report, reporting_queue, NO_VECTOR);
    virtio_driver_ok(&balloon);

    if (cmdline_number(info, "hostile=", 0))
        be_hostile();
    touch(0, pages);
    *mmio64(COUNTERS + 8) = 0;
    put_text("touched\n");
    if (has(FEATURE_STATS))
        give_stats();
    if (reported != 0) {
        submit(&report, page(0), reported * PAGE, DESC_WRITE);
        put_text("reported\n");
    }
    for (;;) {
        uint32_t wanted = *mmio32(balloon.device + CONFIG_PAGES);
        uint32_t step;

        wanted = wanted < pages ? wanted : pages;
        if (wanted > actual) {
            step = wanted - actual < BATCH ? wanted - actual : BATCH;
            move(&inflate, actual, step);
            actual += step;
        } else if (wanted < actual) {
            step = actual - wanted < BATCH ? actual - wanted : BATCH;
            actual -= step;
            move(&deflate, actual, step);
            touch(actual, step);
        }
        *mmio32(balloon.device + CONFIG_ACTUAL) = actual;
        if (has(FEATURE_STATS) && queue_ready(&stats)) {
            queue_wait(&stats, NULL);
            give_stats();
        }
        ++*mmio64(COUNTERS);
    }
}
