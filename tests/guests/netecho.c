/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends every frame back as it came, from the buffers it came in, frames=N times; counts in
 * COUNTERS. With "offloads" it takes frames that are still to be segmented, and sends such.
 * It sleeps while there is nothing: its interrupts are what wakes it.
 */
#include "runtime/cmdline.h"
#include "runtime/uart.h"
#include "runtime/virtio.h"

enum {
    RX = 0,
    TX = 1,
    VECTOR_RX = 0x50,
    BUFFERS = 48, /* more than the longest frame takes */
    BUFFER_SIZE = 1536,
    NUM_BUFFERS = 10, /* in the header */

    FEATURES = 1 << 15 | 1 << 16, /* mergeable buffers, status */
    OFFLOADS = 1 << 0 | 1 << 1 | 1 << 7 | 1 << 11, /* checksums, TSO over IPv4 */
};

static struct virtio net;
static struct queue rx, tx;
static uint8_t buffers[BUFFERS][BUFFER_SIZE];

void guest_main(const struct start_info *info);

INTERRUPT_HANDLER(rx_interrupt)
{
    (void)frame;
    end_of_interrupt();
}

static void give(uintptr_t buffer)
{
    queue_add(&rx, queue_buffer(&rx, (void *)buffer, BUFFER_SIZE, DESC_WRITE));
}

static void wait_for_frame(void)
{
    for (;;) {
        rx.avail.ring[rx.size] = rx.next_used; /* an interrupt for the next one used */
        memory_barrier();
        if (queue_ready(&rx))
            return;
        wait_for_interrupt();
    }
}

static void echo(void)
{
    uintptr_t used[BUFFERS];
    uint16_t head = 0, count = 1;

    for (uint16_t i = 0; i < count; i++) {
        uint32_t length;
        uint16_t at = queue_wait(&rx, &length);
        uint16_t filled;

        used[i] = rx.desc[at].address;
        if (i == 0) {
            count = *mmio16(used[0] + NUM_BUFFERS);
            *mmio16(used[0] + NUM_BUFFERS) = 0;
        }
        filled = queue_buffer(&tx, (void *)used[i], length, i + 1 < count ? DESC_NEXT : 0);
        if (i == 0)
            head = filled;
    }
    queue_add(&tx, head);
    queue_kick(&tx);
    queue_wait(&tx, NULL);
    for (uint16_t i = 0; i < count; i++)
        give(used[i]);
    queue_kick(&rx);
}

void guest_main(const struct start_info *info)
{
    uint32_t frames = cmdline_number(info, "frames=", 1);
    bool offloads = cmdline_find(info, "offloads") != NULL;

    interrupts_init();
    idt_set(VECTOR_RX, rx_interrupt);
    if (!virtio_find(&net, VIRTIO_NET, 0) ||
        !virtio_negotiate(&net, FEATURES | FEATURE_EVENT_IDX | (offloads ? OFFLOADS : 0))) {
        put_text("no net\n");
        power_off();
    }
    virtio_msix_entry(&net, 1, VECTOR_RX);
    virtio_msix_enable(&net);
    virtio_queue(&net, &rx, RX, 1);
    virtio_queue(&net, &tx, TX, NO_VECTOR);
    virtio_driver_ok(&net);
    for (uint32_t i = 0; i < BUFFERS; i++)
        give((uintptr_t)buffers[i]);
    queue_kick(&rx);
    put_text("net ready\n");
    for (uint32_t i = 0; i < frames; i++) {
        wait_for_frame();
        echo();
        *mmio64(COUNTERS) = i + 1;
    }
    put_text("net done\n");
    power_off();
}
