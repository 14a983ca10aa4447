/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks the entropy device rounds=N times for 16 bytes, waits for its interrupt each time, and
 * counts in COUNTERS. With "indirect" it takes EVENT_IDX and indirect descriptors; with
 * "masked" it masks the vector until the bytes are there, and finds it pending.
 */
#include "runtime/cmdline.h"
#include "runtime/uart.h"
#include "runtime/virtio.h"

enum { VECTOR_RNG = 0x50 };

static struct virtio rng;
static struct queue queue;
static struct descriptor table[2] __attribute__((aligned(16)));
static volatile uint64_t random[2];
static volatile uint64_t interrupts;

void guest_main(const struct start_info *info);

INTERRUPT_HANDLER(rng_interrupt)
{
    (void)frame;
    interrupts++;
    end_of_interrupt();
}

static void check(bool right)
{
    if (right)
        return;
    put_text("wrong\n");
    power_off();
}

static uint16_t request(bool indirect)
{
    if (!indirect)
        return queue_buffer(&queue, random, sizeof(random), DESC_WRITE);
    for (uint16_t i = 0; i < 2; i++)
        table[i] = (struct descriptor){(uintptr_t)&random[i], sizeof(random[i]),
                                       i == 0 ? DESC_WRITE | DESC_NEXT : DESC_WRITE, 1};
    return queue_buffer(&queue, table, sizeof(table), DESC_INDIRECT);
}

void guest_main(const struct start_info *info)
{
    uint32_t rounds = cmdline_number(info, "rounds=", 1);
    bool indirect = cmdline_find(info, "indirect") != NULL;
    bool masked = cmdline_find(info, "masked") != NULL;
    uint64_t before = 0;

    interrupts_init();
    idt_set(VECTOR_RNG, rng_interrupt);
    if (!virtio_find(&rng, VIRTIO_RNG, 0) ||
        !virtio_negotiate(&rng, indirect ? FEATURE_INDIRECT | FEATURE_EVENT_IDX : 0)) {
        put_text("no rng\n");
        power_off();
    }
    virtio_msix_entry(&rng, 1, VECTOR_RNG);
    virtio_msix_enable(&rng);
    virtio_queue(&rng, &queue, 0, 1);
    virtio_driver_ok(&rng);
    put_text("rng ready\n");
    for (uint32_t i = 0; i < rounds; i++) {
        uint32_t written;
        uint64_t seen = interrupts;

        if (indirect) /* an interrupt for the next one used */
            queue.avail.ring[queue.size] = queue.next_used;
        if (masked)
            virtio_msix_mask(&rng, 1, true);
        queue_add(&queue, request(indirect));
        queue_kick(&queue);
        if (masked) {
            while (!virtio_msix_pending(&rng, 1))
                spin_hint();
            check(interrupts == seen);
            virtio_msix_mask(&rng, 1, false);
        }
        while (interrupts == seen)
            wait_for_interrupt();
        queue_wait(&queue, &written);
        check(written == sizeof(random) && random[0] != before && interrupts == seen + 1);
        before = random[0];
        *mmio64(COUNTERS) = i + 1;
    }
    put_text("rng done\n");
    power_off();
}
