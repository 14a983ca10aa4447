/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock_mux.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h> /* needs sys/socket.h */

#include "vsock_host.h"

void vsock_mux_init(struct vsock_mux *mux, struct virtio_device *virtio, uint32_t guest_cid)
{
    mux->virtio = virtio;
    mux->guest_cid = guest_cid;
    mux->next_port = VSOCK_HOST_PORT_FIRST;
    TAILQ_INIT(&mux->speaking);
    TAILQ_INIT(&mux->reading);
    TAILQ_INIT(&mux->waiting);
    TAILQ_INIT(&mux->dead);
}

void vsock_mux_clear(struct vsock_mux *mux)
{
    struct vsock_connection *greeting;

    for (uint32_t i = 0; i < VSOCK_BUCKETS; i++)
        while (mux->table[i] != NULL)
            vsock_mux_drop(mux, mux->table[i]);
    while ((greeting = TAILQ_FIRST(&mux->waiting)) != NULL)
        vsock_mux_drop(mux, greeting);
    vsock_mux_bury(mux);
    mux->reset_count = 0;
}

/* ---- the table ----------------------------------------------------------------- */

/* The guest chooses one port and may choose both: a chain has at most all connections. */
static uint32_t vsock_bucket(uint32_t host_port, uint32_t guest_port)
{
    return (host_port * 0x9e3779b1u ^ guest_port * 0x85ebca6bu) >> 22;
}

struct vsock_connection *vsock_mux_find(const struct vsock_mux *mux, uint32_t host_port,
                                        uint32_t guest_port)
{
    struct vsock_connection *connection = mux->table[vsock_bucket(host_port, guest_port)];

    while (connection != NULL &&
           (connection->host_port != host_port || connection->guest_port != guest_port))
        connection = connection->next;
    return connection;
}

struct vsock_connection *vsock_mux_open(struct vsock_mux *mux)
{
    struct vsock_connection *connection = NULL;

    if (mux->count < VSOCK_CONNECTIONS_MAX)
        connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        mux->refused++;
        return NULL;
    }
    connection->fd = -1;
    connection->burst = 1;
    mux->count++;
    return connection;
}

void vsock_mux_insert(struct vsock_mux *mux, struct vsock_connection *connection,
                      uint32_t host_port, uint32_t guest_port)
{
    struct vsock_connection **bucket = &mux->table[vsock_bucket(host_port, guest_port)];

    connection->host_port = host_port;
    connection->guest_port = guest_port;
    connection->next = *bucket;
    connection->in_table = true;
    *bucket = connection;
}

static void vsock_mux_remove(struct vsock_mux *mux, struct vsock_connection *connection)
{
    struct vsock_connection **link =
        &mux->table[vsock_bucket(connection->host_port, connection->guest_port)];

    while (*link != connection)
        link = &(*link)->next;
    *link = connection->next;
    connection->in_table = false;
}

void vsock_mux_update(struct vsock_mux *mux, struct vsock_connection *connection)
{
    bool speaks, reads;

    if (connection->state == VSOCK_DEAD)
        return;
    if (connection->state == VSOCK_ESTABLISHED && connection->readable &&
        !connection->credit_asked && vsock_connection_credit(connection) == 0) {
        connection->credit_asked = true;
        connection->pending |= 1u << VIRTIO_VSOCK_OP_CREDIT_REQUEST;
    }
    speaks = connection->pending != 0;
    reads = vsock_connection_reads(connection);
    if (speaks && !connection->is_speaking)
        TAILQ_INSERT_TAIL(&mux->speaking, connection, speaking);
    if (!speaks && connection->is_speaking)
        TAILQ_REMOVE(&mux->speaking, connection, speaking);
    if (reads && !connection->is_reading)
        TAILQ_INSERT_TAIL(&mux->reading, connection, reading);
    if (!reads && connection->is_reading)
        TAILQ_REMOVE(&mux->reading, connection, reading);
    connection->is_speaking = speaks;
    connection->is_reading = reads;
    vsock_host_watch_room(mux, connection);
}

/* ---- the end of a connection ----------------------------------------------------- */

static void vsock_mux_hang_up(struct vsock_connection *connection)
{
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
    free(connection->buffer);
    connection->buffer = NULL;
    connection->buffered = 0;
    connection->pending = 0;
}

void vsock_mux_drop(struct vsock_mux *mux, struct vsock_connection *connection)
{
    if (connection->in_table)
        vsock_mux_remove(mux, connection);
    vsock_host_wait_over(mux, connection);
    vsock_mux_hang_up(connection);
    connection->state = VSOCK_CLOSING; /* belongs on no list of work */
    vsock_mux_update(mux, connection);
    connection->state = VSOCK_DEAD;
    TAILQ_INSERT_TAIL(&mux->dead, connection, dead);
    mux->count--;
}

void vsock_mux_bury(struct vsock_mux *mux)
{
    struct vsock_connection *connection;

    while ((connection = TAILQ_FIRST(&mux->dead)) != NULL) {
        TAILQ_REMOVE(&mux->dead, connection, dead);
        free(connection);
    }
}

/*
 * There is always a place: packets of the guest, each good for one reset, are taken while the
 * ring is less than half full, the connections there are by then fill less than the other
 * half, and the guest does not hear of new ones of the host before all resets are out.
 */
static void vsock_mux_queue_reset(struct vsock_mux *mux, uint32_t host_port,
                                  uint32_t guest_port, uint16_t type)
{
    uint32_t place = (mux->reset_first + mux->reset_count) % VSOCK_RESETS;

    mux->resets[place] = (struct vsock_reset){host_port, guest_port, type};
    mux->reset_count++;
}

void vsock_mux_reset(struct vsock_mux *mux, struct vsock_connection *connection)
{
    if (!(connection->pending & 1u << VIRTIO_VSOCK_OP_REQUEST))
        vsock_mux_queue_reset(mux, connection->host_port, connection->guest_port,
                              VIRTIO_VSOCK_TYPE_STREAM);
    vsock_mux_drop(mux, connection);
}

/* Pass on what the guest has shut down, once the socket has all it sent before, and end what
 * has no direction left. */
static void vsock_mux_settle(struct vsock_mux *mux, struct vsock_connection *connection)
{
    bool guest_receives = !(connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV);
    bool guest_sends = !(connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND) ||
                       connection->buffered > 0;

    if (!guest_receives && connection->fd >= 0)
        shutdown(connection->fd, SHUT_RD);
    if (!guest_sends && connection->fd >= 0)
        shutdown(connection->fd, SHUT_WR);
    if ((guest_receives && !(connection->host_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)) ||
        (guest_sends && !(connection->host_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)))
        return;
    if (connection->guest_shutdown == VSOCK_SHUTDOWN_BOTH) {
        vsock_mux_reset(mux, connection);
    } else if (connection->state == VSOCK_ESTABLISHED) {
        vsock_mux_hang_up(connection);
        connection->host_shutdown = VSOCK_SHUTDOWN_BOTH;
        connection->pending = 1u << VIRTIO_VSOCK_OP_SHUTDOWN;
        connection->state = VSOCK_CLOSING;
        vsock_host_wait(mux, connection);
    }
}

void vsock_mux_shut_down(struct vsock_mux *mux, struct vsock_connection *connection,
                         uint8_t flags)
{
    if ((connection->host_shutdown & flags) == flags)
        return;
    connection->host_shutdown |= flags;
    connection->pending |= 1u << VIRTIO_VSOCK_OP_SHUTDOWN;
    if (flags & VIRTIO_VSOCK_SHUTDOWN_RCV)
        vsock_connection_discard(connection);
    vsock_mux_settle(mux, connection);
}

void vsock_mux_flush(struct vsock_mux *mux, struct vsock_connection *connection)
{
    if (vsock_connection_flush(connection) < 0)
        vsock_mux_shut_down(mux, connection, VIRTIO_VSOCK_SHUTDOWN_RCV);
    else if (connection->guest_shutdown != 0)
        vsock_mux_settle(mux, connection);
}

/* ---- from the guest -------------------------------------------------------------- */

static void vsock_mux_fault(struct vsock_mux *mux, const struct virtio_vsock_hdr *header,
                            const char *what)
{
    mux->virtio->errors++;
    virtio_log(mux->virtio, "a packet of the guest from port %u to port %u %s", header->src_port,
               header->dst_port, what);
}

bool vsock_mux_takes(const struct vsock_mux *mux)
{
    return mux->reset_count < VSOCK_RESETS / 2;
}

void vsock_mux_establish(struct vsock_mux *mux, struct vsock_connection *connection)
{
    vsock_host_wait_over(mux, connection);
    connection->state = VSOCK_ESTABLISHED;
    connection->readable = true;
    mux->total++;
}

static void vsock_mux_requested(struct vsock_mux *mux, const struct virtio_vsock_hdr *header)
{
    struct vsock_connection *connection = vsock_mux_open(mux);

    if (connection == NULL) {
        vsock_mux_queue_reset(mux, header->dst_port, header->src_port, header->type);
        return;
    }
    vsock_mux_insert(mux, connection, header->dst_port, header->src_port);
    vsock_connection_note_credit(connection, header);
    connection->state = VSOCK_CONNECTING;
    vsock_host_connect(mux, connection);
}

static void vsock_mux_data(struct vsock_mux *mux, struct vsock_connection *connection,
                           const struct virtio_vsock_hdr *header, struct iovec *iov,
                           uint32_t count)
{
    int rc = vsock_connection_write(connection, iov, count, header->len);

    if (rc == -ENOBUFS)
        vsock_mux_fault(mux, header, "exceeds the credit it has: the connection is reset");
    if (rc == -ENOBUFS || rc == -ENOMEM)
        vsock_mux_reset(mux, connection);
    else if (rc < 0)
        vsock_mux_shut_down(mux, connection, VIRTIO_VSOCK_SHUTDOWN_RCV);
}

/* False when the packet makes no sense in the connection's state. */
static bool vsock_mux_handle(struct vsock_mux *mux, struct vsock_connection *connection,
                             const struct virtio_vsock_hdr *header, struct iovec *iov,
                             uint32_t count)
{
    bool established = connection->state == VSOCK_ESTABLISHED;
    bool closing = connection->state == VSOCK_CLOSING;

    switch (header->op) {
    case VIRTIO_VSOCK_OP_RESPONSE:
        if (connection->state != VSOCK_REQUESTED ||
            (connection->pending & 1u << VIRTIO_VSOCK_OP_REQUEST))
            return false;
        vsock_host_accepted(mux, connection);
        return true;
    case VIRTIO_VSOCK_OP_RST:
        if (connection->state == VSOCK_REQUESTED)
            mux->refused++;
        vsock_mux_drop(mux, connection);
        return true;
    case VIRTIO_VSOCK_OP_SHUTDOWN:
        connection->guest_shutdown |= header->flags & VSOCK_SHUTDOWN_BOTH;
        if (established || closing)
            vsock_mux_settle(mux, connection);
        return established || closing;
    case VIRTIO_VSOCK_OP_RW:
        if (established)
            vsock_mux_data(mux, connection, header, iov, count);
        return established || closing;
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        if (established)
            connection->pending |= 1u << VIRTIO_VSOCK_OP_CREDIT_UPDATE;
        return true;
    case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        return true;
    default:
        return false;
    }
}

void vsock_mux_receive(struct vsock_mux *mux, const struct virtio_vsock_hdr *header,
                       struct iovec *iov, uint32_t count, uint64_t available)
{
    struct vsock_connection *connection;

    /* 5.10.6.2: from and to others there is nobody to answer; an unknown type is answered. */
    if (header->src_cid != mux->guest_cid || header->dst_cid != VMADDR_CID_HOST) {
        vsock_mux_fault(mux, header, "has a wrong CID and is dropped");
        return;
    }
    connection = vsock_mux_find(mux, header->dst_port, header->src_port);
    if (header->type != VIRTIO_VSOCK_TYPE_STREAM)
        connection = NULL;
    if (connection == NULL && header->type == VIRTIO_VSOCK_TYPE_STREAM &&
        header->op == VIRTIO_VSOCK_OP_REQUEST) {
        vsock_mux_requested(mux, header);
    } else if (connection == NULL) {
        if (header->op != VIRTIO_VSOCK_OP_RST)
            vsock_mux_queue_reset(mux, header->dst_port, header->src_port, header->type);
    } else if (header->len > available) {
        vsock_mux_fault(mux, header, "is longer than its buffers: the connection is reset");
        vsock_mux_reset(mux, connection);
    } else {
        vsock_connection_note_credit(connection, header);
        if (!vsock_mux_handle(mux, connection, header, iov, count)) {
            vsock_mux_fault(mux, header, "makes no sense now: the connection is reset");
            vsock_mux_reset(mux, connection);
        } else {
            vsock_mux_update(mux, connection);
        }
    }
    vsock_mux_bury(mux);
}

/* ---- to the guest ------------------------------------------------------------------ */

bool vsock_mux_speaks(const struct vsock_mux *mux)
{
    return mux->reset_count > 0 || !TAILQ_EMPTY(&mux->speaking);
}

static void vsock_mux_address(const struct vsock_mux *mux, struct virtio_vsock_hdr *header)
{
    *header = (struct virtio_vsock_hdr){
        .src_cid = VMADDR_CID_HOST,
        .dst_cid = mux->guest_cid,
    };
}

void vsock_mux_speak(struct vsock_mux *mux, struct virtio_vsock_hdr *header)
{
    vsock_mux_address(mux, header);
    if (mux->reset_count > 0) {
        const struct vsock_reset *reset = &mux->resets[mux->reset_first];

        header->src_port = reset->host_port;
        header->dst_port = reset->guest_port;
        header->type = reset->type;
        header->op = VIRTIO_VSOCK_OP_RST;
        mux->reset_first = (mux->reset_first + 1) % VSOCK_RESETS;
        mux->reset_count--;
    } else {
        struct vsock_connection *connection = TAILQ_FIRST(&mux->speaking);
        int operation = ffs(connection->pending) - 1;

        header->op = (uint16_t)operation;
        if (operation == VIRTIO_VSOCK_OP_SHUTDOWN)
            header->flags = connection->host_shutdown;
        connection->pending &= (uint8_t)~(1u << operation);
        vsock_connection_describe(connection, header);
        vsock_mux_update(mux, connection);
    }
}

struct vsock_connection *vsock_mux_reader(const struct vsock_mux *mux)
{
    return TAILQ_FIRST(&mux->reading);
}

void vsock_mux_describe(struct vsock_mux *mux, struct vsock_connection *connection,
                        uint32_t size, struct virtio_vsock_hdr *header)
{
    vsock_mux_address(mux, header);
    header->op = VIRTIO_VSOCK_OP_RW;
    header->len = size;
    vsock_connection_describe(connection, header);
}

void vsock_mux_was_read(struct vsock_mux *mux, struct vsock_connection *connection,
                        ssize_t result)
{
    if (result > 0) {
        connection->sent += (uint32_t)result;
        TAILQ_REMOVE(&mux->reading, connection, reading);
        TAILQ_INSERT_TAIL(&mux->reading, connection, reading);
    } else if (result == 0) {
        connection->readable = false;
        vsock_mux_shut_down(mux, connection,
                            connection->hung_up ? VSOCK_SHUTDOWN_BOTH
                                                : (uint8_t)VIRTIO_VSOCK_SHUTDOWN_SEND);
    } else if (result != -EAGAIN) {
        vsock_mux_reset(mux, connection);
    }
    vsock_mux_update(mux, connection);
    vsock_mux_bury(mux);
}
