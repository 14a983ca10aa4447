/* SPDX-License-Identifier: Apache-2.0 */
/* Comes by at the watchdog each time a character arrives at COM1; at a 'q' it powers off. */
#include "runtime/uart.h"
#include "runtime/virtio.h"

static struct virtio watchdog;
static struct queue queue;
static volatile uint8_t answer;

void guest_main(void);

static void come_by(void)
{
    uint32_t written;

    answer = 0;
    queue_add(&queue, queue_buffer(&queue, &answer, 1, DESC_WRITE));
    queue_kick(&queue);
    queue_wait(&queue, &written);
    put_text(written == 1 && answer == 1 ? "seen\n" : "wrong\n");
}

void guest_main(void)
{
    char character;

    if (!virtio_find(&watchdog, VIRTIO_WATCHDOG, 0) || !virtio_negotiate(&watchdog, 0)) {
        put_text("no watchdog\n");
        power_off();
    }
    virtio_queue(&watchdog, &queue, 0, NO_VECTOR);
    virtio_driver_ok(&watchdog);
    put_text("watchdog ready\n");
    for (;;) {
        while (!(in8(UART_LSR) & UART_LSR_RECEIVED))
            spin_hint();
        character = (char)in8(UART_DATA);
        if (character == 'q')
            power_off();
        if (character == 'r')
            virtio_reset(&watchdog);
        else
            come_by();
    }
}
