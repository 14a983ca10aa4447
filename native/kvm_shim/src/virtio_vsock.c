/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device (virtio 1.2, 5.10), its queues on one side and vsock_mux.h on the other.
 *
 * Whatever woke the thread, it first takes what is new and then fills the guest's receive
 * buffers until one side has no more: bytes go from a socket straight into as many buffers as
 * that connection was seen to fill, and the guest hears of many of them at once.
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h> /* needs sys/socket.h */

#include "error.h"
#include "io_thread.h"
#include "kvm_shim_seccomp.h"
#include "virtio_device.h"
#include "vsock_host.h"
#include "vsock_mux.h"

enum {
    QUEUE_RX,
    QUEUE_TX,
    QUEUE_EVENT,
    QUEUES,

    QUEUE_SIZE = 256,
    CLASS_OTHER = 0xff0000,
    HEADER = sizeof(struct virtio_vsock_hdr),

    BURST = 16,              /* buffers filled by one read */
    TURN = 64,               /* packets or reads before others are looked at */
    READ_MAX = 128 << 10,    /* of one connection before the next one's turn */
    SEGMENTS = VIRTQUEUE_SIZE_MAX,
};

struct virtio_vsock {
    struct virtio_device virtio;
    struct io_thread thread;
    struct io_watch queue_watches[QUEUES], host_watch;
    struct vsock_mux mux;
    bool transport_reset; /* the guest is to be told that its connections are gone */
    bool tx_held;         /* its packets wait for resets to go out */
    struct iovec segments[SEGMENTS]; /* of the chains at hand */
    struct iovec payload[SEGMENTS];  /* ... less their headers */
    _Atomic uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
};

struct vsock_saved {
    uint32_t next_port;
} __attribute__((packed));

static struct virtio_vsock *vsock_of(struct virtio_device *virtio)
{
    return (struct virtio_vsock *)virtio;
}

/* Append the segments from the byte `skip` on to `to`; returns how many. */
static uint32_t vsock_append(struct iovec *to, const struct iovec *from, uint32_t count,
                             uint64_t skip)
{
    uint32_t used = 0;

    for (uint32_t i = 0; i < count; i++) {
        size_t passed = skip < from[i].iov_len ? (size_t)skip : from[i].iov_len;

        skip -= passed;
        if (passed < from[i].iov_len)
            to[used++] = (struct iovec){(uint8_t *)from[i].iov_base + passed,
                                        from[i].iov_len - passed};
    }
    return used;
}

/* ---- to the guest --------------------------------------------------------------------- */

/* Take a receive buffer; once there is none the guest kicks when it adds one. */
static bool vsock_take_buffer(struct virtio_vsock *vsock, struct virtqueue_chain *chain)
{
    struct virtqueue *queue = &vsock->virtio.queues[QUEUE_RX];

    while (!virtqueue_pop(queue, chain)) {
        if (!virtqueue_enable_kicks(queue))
            return false;
        virtqueue_disable_kicks(queue);
    }
    if (chain->writable_bytes > HEADER)
        return true;
    virtio_fail(&vsock->virtio, "a receive buffer of %llu bytes has no room for a packet",
                (unsigned long long)chain->writable_bytes);
    return false;
}

static bool vsock_send_packet(struct virtio_vsock *vsock)
{
    struct virtqueue_chain chain = {.iov = vsock->segments, .capacity = SEGMENTS};
    struct virtio_vsock_hdr header;

    if (!vsock_take_buffer(vsock, &chain))
        return false;
    vsock_mux_speak(&vsock->mux, &header);
    virtqueue_write(&chain, 0, &header, HEADER);
    virtqueue_push(&vsock->virtio.queues[QUEUE_RX], chain.head, HEADER);
    vsock->rx_packets++;
    return true;
}

/* Take up to `burst` buffers, with room for `wanted` bytes if they have as much; returns how
 * many, and their payload in *count segments of *room bytes. */
static uint16_t vsock_take_buffers(struct virtio_vsock *vsock, struct virtqueue_chain *chains,
                                   uint16_t burst, uint64_t wanted, uint32_t *count,
                                   uint64_t *room)
{
    uint32_t used = 0;
    uint16_t taken = 0;

    *count = 0;
    *room = 0;
    while (taken < burst && *room < wanted && used <= SEGMENTS / 2) {
        struct virtqueue_chain *chain = &chains[taken];

        *chain = (struct virtqueue_chain){.iov = vsock->segments + used,
                                          .capacity = SEGMENTS - used};
        if (!vsock_take_buffer(vsock, chain))
            break;
        *count += vsock_append(vsock->payload + *count, chain->iov + chain->readable,
                               chain->writable, HEADER);
        *room += chain->writable_bytes - HEADER;
        used += chain->readable + chain->writable;
        taken++;
    }
    return taken;
}

/* Give the first buffers back with `size` bytes read into them, and put the rest back. */
static uint16_t vsock_give_buffers(struct virtio_vsock *vsock,
                                   struct vsock_connection *connection,
                                   const struct virtqueue_chain *chains, uint16_t taken,
                                   uint32_t size)
{
    struct virtqueue *queue = &vsock->virtio.queues[QUEUE_RX];
    struct virtio_vsock_hdr header;
    uint16_t filled = 0;

    vsock->rx_bytes += size;
    for (; size > 0; filled++) {
        uint64_t room = chains[filled].writable_bytes - HEADER;
        uint32_t part = size < room ? size : (uint32_t)room;

        vsock_mux_describe(&vsock->mux, connection, part, &header);
        virtqueue_write(&chains[filled], 0, &header, HEADER);
        virtqueue_push(queue, chains[filled].head, HEADER + part);
        size -= part;
    }
    vsock->rx_packets += filled;
    virtqueue_unpop(queue, (uint16_t)(taken - filled));
    return filled;
}

static bool vsock_send_data(struct virtio_vsock *vsock, struct vsock_connection *connection)
{
    struct virtqueue_chain chains[BURST];
    uint32_t wanted = vsock_connection_credit(connection), count;
    uint16_t taken, filled;
    uint64_t room;
    ssize_t result;

    if (wanted > READ_MAX)
        wanted = READ_MAX;
    taken = vsock_take_buffers(vsock, chains, connection->burst, wanted, &count, &room);
    if (taken == 0)
        return false;
    if (room > wanted)
        room = wanted;
    result = vsock_connection_read(connection, vsock->payload, count, (uint32_t)room);
    filled = vsock_give_buffers(vsock, connection, chains, taken,
                                result > 0 ? (uint32_t)result : 0);
    if (filled == BURST) /* enough for the guest to begin with while the next is read */
        virtqueue_publish(&vsock->virtio.queues[QUEUE_RX]);
    /* Try more buffers when these were too few, and no more than were of use otherwise. */
    connection->burst = filled < taken ? filled : (uint16_t)(2 * taken);
    if (connection->burst < 1)
        connection->burst = 1;
    if (connection->burst > BURST)
        connection->burst = BURST;
    vsock_mux_was_read(&vsock->mux, connection, result);
    return true;
}

static void vsock_send(struct virtio_vsock *vsock)
{
    struct virtqueue *queue = &vsock->virtio.queues[QUEUE_RX];
    struct vsock_connection *connection;
    uint32_t turn;

    for (turn = 0; turn < TURN; turn++) {
        if (vsock_mux_speaks(&vsock->mux)) {
            if (!vsock_send_packet(vsock))
                break;
        } else {
            connection = vsock_mux_reader(&vsock->mux);
            if (connection == NULL || !vsock_send_data(vsock, connection))
                break;
        }
    }
    virtqueue_publish(queue);
    if (turn == TURN)
        virtqueue_kick(queue);
    if (vsock->tx_held && vsock_mux_takes(&vsock->mux))
        virtqueue_kick(&vsock->virtio.queues[QUEUE_TX]);
}

/* ---- from the guest ------------------------------------------------------------------- */

static void vsock_receive_packet(struct virtio_vsock *vsock, const struct virtqueue_chain *chain)
{
    uint64_t available = chain->readable_bytes - HEADER;
    struct virtio_vsock_hdr header;
    uint32_t count;

    if (virtqueue_read(chain, 0, &header, HEADER) != HEADER) {
        vsock->virtio.errors++;
        virtio_log(&vsock->virtio, "a packet of the guest has %llu bytes, less than a header",
                   (unsigned long long)chain->readable_bytes);
        return;
    }
    count = vsock_append(vsock->payload, chain->iov, chain->readable, HEADER);
    vsock_mux_receive(&vsock->mux, &header, vsock->payload, count, available);
    vsock->tx_packets++;
    if (header.op == VIRTIO_VSOCK_OP_RW && header.len <= available)
        vsock->tx_bytes += header.len;
}

static void vsock_receive(struct virtio_vsock *vsock)
{
    struct virtqueue *queue = &vsock->virtio.queues[QUEUE_TX];
    struct virtqueue_chain chain = {.iov = vsock->segments, .capacity = SEGMENTS};
    uint32_t turn = 0;

    virtqueue_disable_kicks(queue);
    do {
        while (turn < TURN && vsock_mux_takes(&vsock->mux) && virtqueue_pop(queue, &chain)) {
            vsock_receive_packet(vsock, &chain);
            virtqueue_push(queue, chain.head, 0);
            turn++;
        }
        vsock->tx_held = !vsock_mux_takes(&vsock->mux);
    } while (turn < TURN && !vsock->tx_held && virtqueue_enable_kicks(queue));
    virtqueue_publish(queue);
    if (turn == TURN)
        virtqueue_kick(queue);
}

/* ---- events ------------------------------------------------------------------------------ */

static void vsock_tell_transport_reset(struct virtio_vsock *vsock)
{
    const struct virtio_vsock_event event = {.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
    struct virtqueue *queue = &vsock->virtio.queues[QUEUE_EVENT];
    struct virtqueue_chain chain = {.iov = vsock->segments, .capacity = SEGMENTS};

    if (!vsock->transport_reset || !virtqueue_pop(queue, &chain))
        return;
    vsock->transport_reset = false;
    virtqueue_push(queue, chain.head,
                   (uint32_t)virtqueue_write(&chain, 0, &event, sizeof(event)));
    virtqueue_publish(queue);
}

/* ---- the thread -------------------------------------------------------------------------- */

static void vsock_rx_kicked(void *opaque, uint32_t events)
{
    struct virtio_vsock *vsock = opaque;

    (void)events;
    virtqueue_kicked(&vsock->virtio.queues[QUEUE_RX]);
    virtqueue_disable_kicks(&vsock->virtio.queues[QUEUE_RX]);
    vsock_send(vsock);
}

static void vsock_tx_kicked(void *opaque, uint32_t events)
{
    struct virtio_vsock *vsock = opaque;

    (void)events;
    virtqueue_kicked(&vsock->virtio.queues[QUEUE_TX]);
    vsock_receive(vsock);
    vsock_send(vsock);
}

static void vsock_event_kicked(void *opaque, uint32_t events)
{
    struct virtio_vsock *vsock = opaque;

    (void)events;
    virtqueue_kicked(&vsock->virtio.queues[QUEUE_EVENT]);
    vsock_tell_transport_reset(vsock);
}

static void vsock_host_ready(void *opaque, uint32_t events)
{
    struct virtio_vsock *vsock = opaque;

    (void)events;
    vsock_host_poll(&vsock->mux);
    vsock_send(vsock);
}

/* ---- the device -------------------------------------------------------------------------- */

static int vsock_start(struct virtio_device *virtio, kvmshim_error *err)
{
    static io_handler *const handlers[QUEUES] = {
        [QUEUE_RX] = vsock_rx_kicked,
        [QUEUE_TX] = vsock_tx_kicked,
        [QUEUE_EVENT] = vsock_event_kicked,
    };
    struct virtio_vsock *vsock = vsock_of(virtio);
    int rc;

    for (uint32_t i = 0; i < QUEUES; i++) {
        rc = io_thread_watch(&vsock->thread, &vsock->queue_watches[i],
                             virtio->queues[i].kick_fd, EPOLLIN, handlers[i], vsock, err);
        if (rc < 0)
            return rc;
    }
    rc = io_thread_watch(&vsock->thread, &vsock->host_watch, vsock->mux.epoll_fd, EPOLLIN,
                         vsock_host_ready, vsock, err);
    if (rc < 0)
        return rc;
    vsock_host_resume(&vsock->mux);
    io_thread_release(&vsock->thread);
    for (uint32_t i = 0; i < QUEUES; i++)
        virtqueue_kick(&virtio->queues[i]);
    return 0;
}

static int vsock_stop(struct virtio_device *virtio, uint64_t deadline_ns)
{
    return io_thread_hold(&vsock_of(virtio)->thread, deadline_ns);
}

static void vsock_reset(struct virtio_device *virtio)
{
    struct virtio_vsock *vsock = vsock_of(virtio);

    vsock_mux_clear(&vsock->mux);
    vsock->transport_reset = false;
    vsock->tx_held = false;
}

static void vsock_free(struct virtio_vsock *vsock)
{
    io_thread_stop(&vsock->thread);
    vsock_mux_clear(&vsock->mux);
    vsock_host_close(&vsock->mux);
    free(vsock);
}

static void vsock_destroy(struct virtio_device *virtio)
{
    vsock_free(vsock_of(virtio));
}

static void vsock_save(struct virtio_device *virtio, void *state)
{
    struct vsock_saved *saved = state;

    saved->next_port = vsock_of(virtio)->mux.next_port;
}

/* The sockets stay where they are, so connections end here (5.10.6.8): the guest is told by
 * an event, and the ports go on so that none is taken for one of before. */
static int vsock_load(struct virtio_device *virtio, const void *state, kvmshim_error *err)
{
    struct virtio_vsock *vsock = vsock_of(virtio);
    const struct vsock_saved *saved = state;

    if (saved->next_port < VSOCK_HOST_PORT_FIRST || saved->next_port > VSOCK_HOST_PORT_LAST)
        return error_set(err, -EINVAL, "vsock state: next port 0x%x", saved->next_port);
    vsock_reset(virtio);
    vsock->mux.next_port = saved->next_port;
    vsock->transport_reset = true;
    return 0;
}

static void vsock_counters(struct virtio_device *virtio, struct counters *counters)
{
    struct virtio_vsock *vsock = vsock_of(virtio);

    counters_add(counters, vsock->mux.count, "connections");
    counters_add(counters, vsock->mux.total, "connections_total");
    counters_add(counters, vsock->mux.refused, "refused");
    counters_add(counters, vsock->rx_bytes, "rx_bytes");
    counters_add(counters, vsock->rx_packets, "rx_packets");
    counters_add(counters, vsock->tx_bytes, "tx_bytes");
    counters_add(counters, vsock->tx_packets, "tx_packets");
}

static const struct virtio_ops vsock_ops = {
    .name = "virtio-vsock",
    .type = VIRTIO_ID_VSOCK,
    .class_code = CLASS_OTHER,
    .version = 1,
    .state_size = sizeof(struct vsock_saved),
    .start = vsock_start,
    .stop = vsock_stop,
    .destroy = vsock_destroy,
    .reset = vsock_reset,
    .save = vsock_save,
    .load = vsock_load,
    .counters = vsock_counters,
};

int kvmshim_vsock_create(kvmshim_vm *vm, const kvmshim_place *place, uint32_t cid, int listener,
                         const char *path, kvmshim_device **device, kvmshim_error *err)
{
    static const uint16_t queue_sizes[QUEUES] = {QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE};
    const struct virtio_vsock_config config = {.guest_cid = cid};
    struct virtio_vsock *vsock;
    int rc;

    if (cid <= VMADDR_CID_HOST || cid == VMADDR_CID_ANY)
        return error_set(err, -EINVAL, "vsock: CID %u is not a guest's", cid);
    vsock = calloc(1, sizeof(*vsock));
    if (vsock == NULL)
        return error_set(err, -ENOMEM, "vsock: allocate");
    vsock_mux_init(&vsock->mux, &vsock->virtio, cid);
    rc = vsock_host_open(&vsock->mux, listener, path, err);
    if (rc < 0) {
        free(vsock);
        return rc;
    }
    rc = io_thread_start(&vsock->thread, vm, KVMSHIM_THREAD_VSOCK, "vsock-io", err);
    if (rc == 0)
        rc = virtio_create(&vsock->virtio, vm, place, &vsock_ops, 0, &config, sizeof(config),
                           queue_sizes, QUEUES, err);
    if (rc < 0) {
        vsock_free(vsock);
        return rc;
    }
    *device = &vsock->virtio.device;
    return 0;
}
