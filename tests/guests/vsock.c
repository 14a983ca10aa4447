/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Echoes virtio sockets: whoever connects to a port of the guest gets back what he sends, and
 * so does the host's port N with connect=N. The peer keeps no more than 64 KiB on the way.
 * A client of port 0 powers the machine off.
 */
#include "runtime/cmdline.h"
#include "runtime/uart.h"
#include "runtime/virtio.h"

enum {
    VECTOR_RX = 0x50,
    BUFFERS = 32,
    BUFFER_SIZE = 1024,
    CONNECTIONS = 256, /* told apart by the low bits of the host's port */
    CREDIT = 65536,
    GUEST_PORT = 1000,

    TYPE_STREAM = 1,
    OP_REQUEST = 1,
    OP_RESPONSE = 2,
    OP_RST = 3,
    OP_SHUTDOWN = 4,
    OP_RW = 5,
    OP_CREDIT_UPDATE = 6,
    OP_CREDIT_REQUEST = 7,
    SHUTDOWN_BOTH = 3,
};

struct header {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, length;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

static struct virtio vsock;
static struct queue rx, tx, event;
static uint8_t buffers[BUFFERS][BUFFER_SIZE] __attribute__((aligned(16)));
static uint32_t consumed[CONNECTIONS];
static volatile uint64_t interrupts;

void guest_main(const struct start_info *info);

INTERRUPT_HANDLER(rx_interrupt)
{
    (void)frame;
    interrupts++;
    end_of_interrupt();
}

/* Send what the buffer holds, and wait until it was taken. */
static void send(struct header *header, uint16_t op)
{
    header->op = op;
    header->type = TYPE_STREAM;
    header->buf_alloc = CREDIT;
    header->fwd_cnt = consumed[header->dst_port % CONNECTIONS];
    queue_add(&tx, queue_buffer(&tx, header, (uint32_t)sizeof(*header) + header->length, 0));
    queue_kick(&tx);
    queue_wait(&tx, NULL);
}

/* Answer in place: the packet goes back to where it came from. */
static void answer(struct header *header)
{
    uint64_t cid = header->dst_cid;
    uint32_t port = header->dst_port;

    header->dst_cid = header->src_cid;
    header->dst_port = header->src_port;
    header->src_cid = cid;
    header->src_port = port;
    switch (header->op) {
    case OP_REQUEST:
        if (port == 0)
            power_off();
        consumed[header->dst_port % CONNECTIONS] = 0;
        send(header, OP_RESPONSE);
        break;
    case OP_RW:
        consumed[header->dst_port % CONNECTIONS] += header->length;
        send(header, OP_RW);
        break;
    case OP_SHUTDOWN:
        header->flags = SHUTDOWN_BOTH;
        send(header, OP_SHUTDOWN);
        break;
    case OP_CREDIT_REQUEST:
        send(header, OP_CREDIT_UPDATE);
        break;
    default:
        break;
    }
}

static void begin(uint32_t port)
{
    static struct header request;

    request.src_cid = *mmio32(vsock.device);
    request.dst_cid = 2;
    request.src_port = GUEST_PORT;
    request.dst_port = port;
    send(&request, OP_REQUEST);
}

void guest_main(const struct start_info *info)
{
    uint32_t port = cmdline_number(info, "connect=", 0);
    uint64_t seen = 0;

    interrupts_init();
    idt_set(VECTOR_RX, rx_interrupt);
    if (!virtio_find(&vsock, VIRTIO_VSOCK, 0) || !virtio_negotiate(&vsock, 0)) {
        put_text("no vsock\n");
        power_off();
    }
    virtio_msix_entry(&vsock, 1, VECTOR_RX);
    virtio_msix_enable(&vsock);
    virtio_queue(&vsock, &rx, 0, 1);
    virtio_queue(&vsock, &tx, 1, NO_VECTOR);
    virtio_queue(&vsock, &event, 2, NO_VECTOR);
    virtio_driver_ok(&vsock);
    for (uint32_t i = 0; i < BUFFERS; i++)
        queue_add(&rx, queue_buffer(&rx, buffers[i], BUFFER_SIZE, DESC_WRITE));
    queue_kick(&rx);
    put_text("vsock ready\n");
    if (port != 0)
        begin(port);
    for (;;) {
        while (interrupts == seen)
            wait_for_interrupt();
        seen = interrupts;
        while (queue_ready(&rx)) {
            uint16_t head = queue_wait(&rx, NULL);

            answer((struct header *)(uintptr_t)rx.desc[head].address);
            queue_add(&rx, head);
            queue_kick(&rx);
        }
    }
}
