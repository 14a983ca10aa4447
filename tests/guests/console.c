/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives a virtio console by interrupts: says its size now and after each change, sends
 * "send=N" bytes from 0x240000 (where the test has put them) as one buffer, echoes what comes
 * in, and powers off at a 'q'. On COM1 it says how far it is.
 */
#include "runtime/cmdline.h"
#include "runtime/uart.h"
#include "runtime/virtio.h"

enum {
    VECTOR_CONFIG = 0x50,
    VECTOR_RECEIVE = 0x51,
    FEATURE_SIZE = 1,
    QUEUE_RECEIVE = 0,
    QUEUE_TRANSMIT = 1,
    BUFFERS = 4,
    BUFFER_SIZE = 64,
    DATA = 0x240000,
};

static struct virtio console;
static struct queue receive, transmit;
static uint8_t buffers[BUFFERS][BUFFER_SIZE];
static volatile int resized;

void guest_main(const struct start_info *info);

INTERRUPT_HANDLER(config_interrupt)
{
    (void)frame;
    resized = 1;
    end_of_interrupt();
}

INTERRUPT_HANDLER(receive_interrupt)
{
    (void)frame;
    end_of_interrupt();
}

static void send(const volatile void *data, uint32_t length)
{
    queue_add(&transmit, queue_buffer(&transmit, data, length, 0));
    queue_kick(&transmit);
    queue_wait(&transmit, NULL);
}

static uint32_t format(char *text, uint32_t number)
{
    char digits[10];
    uint32_t count = 0, length = 0;

    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    while (count)
        text[length++] = digits[--count];
    return length;
}

static void send_size(void)
{
    static char text[32];
    uint32_t length;

    resized = 0;
    length = format(text, *mmio16(console.device));
    text[length++] = 'x';
    length += format(text + length, *mmio16(console.device + 2));
    text[length++] = '\n';
    send(text, length);
}

static void offer(uint16_t buffer)
{
    /* Descriptor n is of buffer n: they are taken in turns and used in their order. */
    queue_add(&receive, queue_buffer(&receive, buffers[buffer], BUFFER_SIZE, DESC_WRITE));
}

static int echo(void)
{
    int quit = 0;

    while (queue_ready(&receive)) {
        uint32_t length;
        uint16_t buffer = queue_wait(&receive, &length) % BUFFERS;

        for (uint32_t i = 0; i < length; i++)
            quit |= buffers[buffer][i] == 'q';
        send(buffers[buffer], length);
        offer(buffer);
        queue_kick(&receive);
    }
    return quit;
}

static void set_up(void)
{
    virtio_negotiate(&console, FEATURE_SIZE);
    virtio_msix_entry(&console, 0, VECTOR_CONFIG);
    virtio_msix_entry(&console, 1, VECTOR_RECEIVE);
    virtio_msix_enable(&console);
    *mmio16(console.common + COMMON_CONFIG_VECTOR) = 0;
    virtio_queue(&console, &receive, QUEUE_RECEIVE, 1);
    virtio_queue(&console, &transmit, QUEUE_TRANSMIT, NO_VECTOR);
    virtio_driver_ok(&console);
    for (uint16_t i = 0; i < BUFFERS; i++)
        offer(i);
    queue_kick(&receive);
}

void guest_main(const struct start_info *info)
{
    uint32_t bytes = cmdline_number(info, "send=", 0);

    interrupts_init();
    idt_set(VECTOR_CONFIG, config_interrupt);
    idt_set(VECTOR_RECEIVE, receive_interrupt);
    if (!virtio_find(&console, VIRTIO_CONSOLE, 0)) {
        put_text("no console\n");
        power_off();
    }
    set_up();
    send_size();
    put_text("console ready\n");
    if (bytes) {
        send(mmio8(DATA), bytes);
        put_text("sent\n");
    }
    while (!echo()) {
        wait_for_interrupt();
        if (resized)
            send_size();
    }
    power_off();
}
