/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock_connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Cut `iov` to its first `size` bytes; returns how many segments that leaves. */
static uint32_t vsock_cut(struct iovec *iov, uint32_t count, uint32_t size)
{
    uint32_t used = 0;

    while (used < count && size > 0) {
        if (iov[used].iov_len > size)
            iov[used].iov_len = size;
        size -= (uint32_t)iov[used].iov_len;
        used++;
    }
    return used;
}

/* ---- credit ---------------------------------------------------------------- */

void vsock_connection_note_credit(struct vsock_connection *connection,
                                  const struct virtio_vsock_hdr *header)
{
    connection->peer_credit = header->buf_alloc;
    connection->peer_consumed = header->fwd_cnt;
    if (vsock_connection_credit(connection) > 0)
        connection->credit_asked = false;
}

uint32_t vsock_connection_credit(const struct vsock_connection *connection)
{
    /* A guest that claims to have consumed more than it got has a huge difference here, and
     * so no credit: its own loss. */
    uint32_t outstanding = connection->sent - connection->peer_consumed;

    return outstanding < connection->peer_credit ? connection->peer_credit - outstanding : 0;
}

bool vsock_connection_reads(const struct vsock_connection *connection)
{
    return connection->state == VSOCK_ESTABLISHED && connection->readable &&
           !(connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV) &&
           vsock_connection_credit(connection) > 0;
}

/* An update for each quarter is early enough for a guest that sends without a break, and
 * seldom enough to be no cost. */
static void vsock_connection_forwarded(struct vsock_connection *connection, uint32_t size)
{
    connection->forwarded += size;
    if (connection->forwarded - connection->reported >= VSOCK_CREDIT / 4)
        connection->pending |= 1u << VIRTIO_VSOCK_OP_CREDIT_UPDATE;
}

void vsock_connection_describe(struct vsock_connection *connection,
                               struct virtio_vsock_hdr *header)
{
    header->src_port = connection->host_port;
    header->dst_port = connection->guest_port;
    header->type = VIRTIO_VSOCK_TYPE_STREAM;
    header->buf_alloc = VSOCK_CREDIT;
    header->fwd_cnt = connection->forwarded;
    connection->reported = connection->forwarded;
    connection->pending &= (uint8_t)~(1u << VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

/* ---- from the socket ------------------------------------------------------- */

ssize_t vsock_connection_read(struct vsock_connection *connection, struct iovec *iov,
                              uint32_t count, uint32_t size)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = vsock_cut(iov, count, size)};
    ssize_t got;

    do {
        got = recvmsg(connection->fd, &message, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        connection->readable = false;
        return -errno;
    }
    /* The sockets are watched for edges. Less than asked for means that all was read, but for
     * descriptors, which end a read early, and for the end, which comes after the bytes. */
    if ((uint32_t)got < size && !connection->ending && !(message.msg_flags & MSG_CTRUNC))
        connection->readable = false;
    return got;
}

/* ---- to the socket --------------------------------------------------------- */

static ssize_t vsock_connection_send(struct vsock_connection *connection, struct iovec *iov,
                                     uint32_t count)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t taken;

    do {
        taken = sendmsg(connection->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (taken < 0 && errno == EINTR);
    if (taken < 0)
        return errno == EAGAIN ? 0 : -errno;
    return taken;
}

static void vsock_buffer_append(struct vsock_connection *connection, const uint8_t *data,
                                uint32_t size)
{
    uint32_t tail = (connection->buffer_head + connection->buffered) % VSOCK_CREDIT;
    uint32_t first = size < VSOCK_CREDIT - tail ? size : VSOCK_CREDIT - tail;

    memcpy(connection->buffer + tail, data, first);
    memcpy(connection->buffer, data + first, size - first);
    connection->buffered += size;
}

/* Keep what `iov` has from `skip` on. The credit says that there is room. */
static int vsock_connection_keep(struct vsock_connection *connection, const struct iovec *iov,
                                 uint32_t count, size_t skip)
{
    if (connection->buffer == NULL) {
        connection->buffer = malloc(VSOCK_CREDIT);
        if (connection->buffer == NULL)
            return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t passed = skip < iov[i].iov_len ? skip : iov[i].iov_len;

        vsock_buffer_append(connection, (const uint8_t *)iov[i].iov_base + passed,
                            (uint32_t)(iov[i].iov_len - passed));
        skip -= passed;
    }
    return 0;
}

int vsock_connection_write(struct vsock_connection *connection, struct iovec *iov,
                           uint32_t count, uint32_t size)
{
    ssize_t taken = 0;

    if (size > VSOCK_CREDIT - (connection->received - connection->reported))
        return -ENOBUFS;
    connection->received += size;
    if (connection->host_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV) {
        vsock_connection_forwarded(connection, size);
        return 0;
    }
    count = vsock_cut(iov, count, size);
    if (connection->buffered == 0 && size > 0)
        taken = vsock_connection_send(connection, iov, count);
    if (taken < 0)
        return (int)taken;
    vsock_connection_forwarded(connection, (uint32_t)taken);
    if ((uint32_t)taken == size)
        return 0;
    return vsock_connection_keep(connection, iov, count, (size_t)taken);
}

int vsock_connection_flush(struct vsock_connection *connection)
{
    while (connection->buffered > 0) {
        uint32_t straight = VSOCK_CREDIT - connection->buffer_head;
        uint32_t first = connection->buffered < straight ? connection->buffered : straight;
        struct iovec iov[2] = {
            {connection->buffer + connection->buffer_head, first},
            {connection->buffer, connection->buffered - first},
        };
        ssize_t taken = vsock_connection_send(connection, iov, 2);

        if (taken <= 0)
            return (int)taken;
        connection->buffered -= (uint32_t)taken;
        connection->buffer_head =
            connection->buffered == 0
                ? 0 /* pages that no slow peer made necessary stay untouched */
                : (connection->buffer_head + (uint32_t)taken) % VSOCK_CREDIT;
        vsock_connection_forwarded(connection, (uint32_t)taken);
    }
    return 0;
}

void vsock_connection_discard(struct vsock_connection *connection)
{
    vsock_connection_forwarded(connection, connection->received - connection->forwarded);
    connection->buffered = 0;
    connection->buffer_head = 0;
}
