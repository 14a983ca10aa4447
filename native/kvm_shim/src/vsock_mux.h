/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections of a vsock device: who may talk to whom, and what the guest is to be told
 * next. vsock_host.c has the host's side, virtio_vsock.c the queues, and one thread all of it.
 *
 * Nothing that waits for the guest grows with what the guest does: a connection has a bit for
 * each kind of packet, and resets, which outlive their connections, have a ring that holds
 * the guest's packets up when it is half full.
 */
#ifndef KVM_SHIM_VSOCK_MUX_H
#define KVM_SHIM_VSOCK_MUX_H

#include <stdatomic.h>
#include <sys/un.h>

#include "virtio_device.h"
#include "vsock_connection.h"

#define VSOCK_CONNECTIONS_MAX 1023u
#define VSOCK_BUCKETS 1024u
#define VSOCK_RESETS 2048u

/* Host ports of connections that begin at the host: above those that servers use. */
#define VSOCK_HOST_PORT_FIRST (1u << 30)
#define VSOCK_HOST_PORT_LAST ((1u << 31) - 1)

/* "<path>_<port>" is a socket's path. */
#define VSOCK_PATH_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - sizeof("_4294967295"))

struct vsock_reset {
    uint32_t host_port, guest_port;
    uint16_t type;
};

TAILQ_HEAD(vsock_list, vsock_connection);

struct vsock_mux {
    struct virtio_device *virtio;
    uint32_t guest_cid;
    uint32_t next_port; /* the host port to try next */

    struct vsock_connection *table[VSOCK_BUCKETS]; /* by ports; those greeting have none yet */
    struct vsock_list speaking; /* have a packet without data for the guest */
    struct vsock_list reading;  /* may have data for it; served in turn */
    struct vsock_list waiting;  /* have a deadline; the earliest first */
    struct vsock_list dead;     /* freed when nobody can have a pointer to one any more */
    struct vsock_reset resets[VSOCK_RESETS];
    uint32_t reset_first, reset_count;

    /* vsock_host.c */
    int epoll_fd, timer_fd, listener;
    char path[VSOCK_PATH_MAX + 1];
    uint64_t alarm_ns; /* when timer_fd goes off; UINT64_MAX: it does not */
    bool retry;        /* something could not be done for now */

    _Atomic uint32_t count;
    _Atomic uint64_t total, refused;
};

void vsock_mux_init(struct vsock_mux *mux, struct virtio_device *virtio, uint32_t guest_cid);
/* Close every connection without a word to the guest. */
void vsock_mux_clear(struct vsock_mux *mux);

/* ---- towards the guest ------------------------------------------------------- */

/* Is there room for what a packet of the guest may bring about? */
bool vsock_mux_takes(const struct vsock_mux *mux);
/* A packet of the guest whose payload is `iov`, of `available` bytes: at least header->len if
 * the guest is honest. */
void vsock_mux_receive(struct vsock_mux *mux, const struct virtio_vsock_hdr *header,
                       struct iovec *iov, uint32_t count, uint64_t available);

/* The next packet without data for the guest, if vsock_mux_speaks(). */
bool vsock_mux_speaks(const struct vsock_mux *mux);
void vsock_mux_speak(struct vsock_mux *mux, struct virtio_vsock_hdr *header);
/* The connection whose turn it is to be read; NULL: none has anything. */
struct vsock_connection *vsock_mux_reader(const struct vsock_mux *mux);
/* A packet's header for `size` bytes of the connection. */
void vsock_mux_describe(struct vsock_mux *mux, struct vsock_connection *connection,
                        uint32_t size, struct virtio_vsock_hdr *header);
/* It was read, with this result: the next one's turn. */
void vsock_mux_was_read(struct vsock_mux *mux, struct vsock_connection *connection,
                        ssize_t result);

/* ---- for vsock_host.c --------------------------------------------------------- */

/* A new connection without ports, NULL and counted as refused when there are too many. */
struct vsock_connection *vsock_mux_open(struct vsock_mux *mux);
struct vsock_connection *vsock_mux_find(const struct vsock_mux *mux, uint32_t host_port,
                                        uint32_t guest_port);
void vsock_mux_insert(struct vsock_mux *mux, struct vsock_connection *connection,
                      uint32_t host_port, uint32_t guest_port);
void vsock_mux_establish(struct vsock_mux *mux, struct vsock_connection *connection);
/* After any change: have it on the lists where it belongs. */
void vsock_mux_update(struct vsock_mux *mux, struct vsock_connection *connection);
/* The host's side will not send or receive any more: VIRTIO_VSOCK_SHUTDOWN_*. */
void vsock_mux_shut_down(struct vsock_mux *mux, struct vsock_connection *connection,
                         uint8_t flags);
/* Send what it kept, now that there is room. */
void vsock_mux_flush(struct vsock_mux *mux, struct vsock_connection *connection);
/* Close it; reset: and tell the guest, if it knows of it. */
void vsock_mux_drop(struct vsock_mux *mux, struct vsock_connection *connection);
void vsock_mux_reset(struct vsock_mux *mux, struct vsock_connection *connection);
void vsock_mux_bury(struct vsock_mux *mux);

#endif
