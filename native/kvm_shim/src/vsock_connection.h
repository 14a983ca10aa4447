/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream between a socket of the host and a port of the guest: its bytes and its credit
 * (virtio 1.2, 5.10.6.3). Who connects to whom and who closes is the business of vsock_mux.h.
 */
#ifndef KVM_SHIM_VSOCK_CONNECTION_H
#define KVM_SHIM_VSOCK_CONNECTION_H

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <sys/uio.h>

/* What the guest may have on the way to one socket. */
#define VSOCK_CREDIT (256u << 10)
#define VSOCK_SHUTDOWN_BOTH ((uint8_t)(VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND))

enum vsock_state {
    VSOCK_GREETING,    /* a client of the host has not said yet which port it wants */
    VSOCK_REQUESTED,   /* the guest has not answered yet */
    VSOCK_CONNECTING,  /* the guest waits for a server of the host that is busy */
    VSOCK_ESTABLISHED,
    VSOCK_CLOSING,     /* the host's side is closed, and the guest is to confirm */
    VSOCK_DEAD,        /* on no list but that of the dead */
};

struct vsock_connection {
    struct vsock_connection *next; /* in the table */
    TAILQ_ENTRY(vsock_connection) speaking, reading, waiting, dead;
    bool in_table, is_speaking, is_reading, is_waiting;

    enum vsock_state state;
    uint32_t host_port, guest_port;
    uint64_t deadline_ns;   /* while it waits */
    uint8_t pending;        /* 1 << operation: packets without data that the guest is to get */
    uint8_t host_shutdown;  /* VIRTIO_VSOCK_SHUTDOWN_*: what the host will not do any more */
    uint8_t guest_shutdown; /* ... and the guest */

    int fd;           /* -1: none yet, or none any more */
    bool readable;    /* there may be something to read: bytes, the end or an error */
    bool ending;      /* the peer shut down or failed: once the bytes are read there is more */
    bool hung_up;     /* the peer is gone in both directions */
    bool wants_room;  /* epoll is asked to tell when the socket takes more */
    uint16_t burst;   /* receive buffers of the guest worth trying to fill at once */

    uint8_t *buffer;  /* a ring of VSOCK_CREDIT bytes for what the socket did not take at once */
    uint32_t buffer_head, buffered;
    uint32_t received, forwarded; /* free-running: bytes from the guest, bytes to the socket */
    uint32_t reported;            /* `forwarded` as the guest was told it last */

    uint32_t sent;                       /* free-running: bytes to the guest */
    uint32_t peer_credit, peer_consumed; /* the guest's buf_alloc and fwd_cnt */
    bool credit_asked;                   /* it was asked for more, and gave none since */
};

/* The guest's view of its buffers, in each of its packets. */
void vsock_connection_note_credit(struct vsock_connection *connection,
                                  const struct virtio_vsock_hdr *header);
/* How many bytes the guest has room for. */
uint32_t vsock_connection_credit(const struct vsock_connection *connection);
/* Would reading its socket be of use now? */
bool vsock_connection_reads(const struct vsock_connection *connection);

/* Read into the first `size` bytes of `iov`, which is changed: as readv(), but -errno and never
 * blocking. */
ssize_t vsock_connection_read(struct vsock_connection *connection, struct iovec *iov,
                              uint32_t count, uint32_t size);

/* The first `size` bytes of `iov`, which is changed, to the socket; what that does not take now
 * is kept. -ENOBUFS when the guest had no credit for them, -errno of the socket otherwise. */
int vsock_connection_write(struct vsock_connection *connection, struct iovec *iov,
                           uint32_t count, uint32_t size);
/* What was kept to the socket, as far as it goes. */
int vsock_connection_flush(struct vsock_connection *connection);
/* What was kept is of no use: the peer does not listen any more. */
void vsock_connection_discard(struct vsock_connection *connection);

/* The fields of a packet to the guest that are the connection's, its credit among them. */
void vsock_connection_describe(struct vsock_connection *connection,
                               struct virtio_vsock_hdr *header);

#endif
