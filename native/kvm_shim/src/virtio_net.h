/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device (virtio 1.2, 5.1) on a tap, in seven files: virtio_net.c is the device,
 * virtio_net_pair.c one queue pair and its thread, virtio_net_rx.c and virtio_net_tx.c the way
 * of a frame, virtio_net_control.c the control queue, virtio_net_tap.c the tap's ioctls, and
 * virtio_net_vhost.c the kernel doing the same in our place.
 *
 * A pair's thread owns the pair. Pair 0's thread has the control queue as well and reaches the
 * others by io_thread_call(). Whoever starts and stops the device owns all of it meanwhile.
 */
#ifndef KVM_SHIM_VIRTIO_NET_H
#define KVM_SHIM_VIRTIO_NET_H

#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "io_thread.h"
#include "limiter.h"
#include "virtio_device.h"

#define NET_BIT(feature) (UINT64_C(1) << VIRTIO_NET_F_##feature)

/* What the guest takes, and what it may give. */
#define NET_GUEST_OFFLOADS                                                                        \
    (NET_BIT(GUEST_CSUM) | NET_BIT(GUEST_TSO4) | NET_BIT(GUEST_TSO6) | NET_BIT(GUEST_ECN) |       \
     NET_BIT(GUEST_UFO))

enum {
    NET_PAIRS_MAX = 128,
    NET_HEADER = sizeof(struct virtio_net_hdr_v1),
    NET_ETHERNET = 14 + 4, /* header, VLAN tag */
    NET_FRAME_MAX = NET_HEADER + NET_ETHERNET + 65536,

    NET_IOV_MAX = 1024, /* UIO_MAXIOV of Linux */
    NET_RX_SEGMENTS = 256, /* of one receive buffer */

    /* A direction's turn ends after as many frames or bytes, and then the other has its own. */
    NET_TURN_FRAMES = 64,
    NET_TURN_BYTES = 512 << 10,
};

/* Where a rate limiter holds a direction up. */
struct net_gate {
    struct limiter *limiter;
    int timer; /* -1: there is no limiter */
    struct io_watch watch;
    bool closed; /* until the timer fires */
    _Atomic uint64_t closed_ns;
};

/* A buffer of the guest that was taken and is not filled yet. */
struct net_buffer {
    uint64_t bytes;
    uint16_t head, segments;
};

/*
 * Buffers are taken ahead, as many as the longest frame may need, and the tap is read straight
 * into them. What a frame leaves untouched serves the next one.
 */
struct net_rx {
    struct virtqueue *queue;
    struct io_watch kick;
    struct net_gate gate;
    uint64_t wanted; /* room to read with, if the guest has given it */
    bool starved;    /* waits for buffers */

    struct net_buffer buffers[NET_IOV_MAX];
    uint32_t first_buffer, buffer_count;
    struct iovec iov[2 * NET_IOV_MAX]; /* of those buffers */
    uint32_t first_segment, segment_count;
    uint64_t room; /* bytes of those buffers */

    uint32_t frame;   /* bytes, with its header, of a frame not delivered yet; 0: none */
    uint32_t spilled; /* the last of those had no room */
    uint8_t spill[NET_FRAME_MAX];

    _Atomic uint64_t frames, bytes, dropped;
};

struct net_tx {
    struct virtqueue *queue;
    struct io_watch kick;
    struct net_gate gate;
    bool blocked; /* the tap takes no more for now */
    struct iovec iov[NET_IOV_MAX];

    _Atomic uint64_t frames, bytes, dropped, malformed;
};

struct net_pair {
    struct net *net;
    uint16_t index;
    int tap, vhost; /* vhost -1: the shim moves the frames */
    char interface[IF_NAMESIZE];
    bool attached;  /* the interface gives frames to this queue of the tap */
    bool lost;      /* the interface is gone */
    bool running;   /* between the device's start and stop */
    bool vhost_runs;
    struct io_thread thread; /* not with vhost, but for pair 0 */
    struct io_watch tap_watch;
    struct net_rx rx;
    struct net_tx tx;
};

struct net {
    struct virtio_device virtio;
    uint8_t mac[6]; /* as configured; the guest may choose another, until it is reset */
    uint16_t mtu;   /* 0: not told */
    bool loaded;         /* came from elsewhere: the network is to be told */
    uint16_t active;     /* pairs that the guest uses */
    _Atomic uint64_t offloads; /* NET_GUEST_OFFLOADS in force */

    struct virtqueue *control; /* NULL: the guest does not use it */
    struct io_watch control_kick;
    int vhost_error; /* eventfd: the kernel found a ring broken; -1 without vhost */
    struct io_watch vhost_error_watch;

    uint16_t pair_count;
    struct net_pair pairs[];
};

static inline void net_count(_Atomic uint64_t *counter, uint64_t value)
{
    /* One thread counts, others look. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value,
                          memory_order_relaxed);
}

/* ---- virtio_net.c ---- */

/* Change bits of the configuration's status and tell the driver. */
void net_status_change(struct net *net, uint16_t set, uint16_t clear);

/* ---- virtio_net_pair.c ---- */

int net_pair_init(struct net_pair *pair, struct net *net, uint16_t index, int tap,
                  struct limiter *rx, struct limiter *tx, kvmshim_error *err);
/* Its tap is attached again, as it was given. */
void net_pair_free(struct net_pair *pair);
/* The thread is held: watch what the guest has set up, or forget it and give back what is not
 * used. */
int net_pair_start(struct net_pair *pair, kvmshim_error *err);
void net_pair_stop(struct net_pair *pair);
/* Attach and watch the pair's queue of the tap, or detach it. In the thread, or held. */
int net_pair_attach(struct net_pair *pair, bool attach);
/* Watch the tap for what rx and tx wait for. */
void net_pair_watch_tap(struct net_pair *pair);
/* A call on the tap failed because the interface is no more. */
void net_pair_lost(struct net_pair *pair, int error);
/* Take tokens for a frame; or else the gate is closed, and the direction goes on by itself. */
bool net_gate_pass(struct net_gate *gate, uint64_t bytes);

/* ---- virtio_net_rx.c, virtio_net_tx.c: a turn ---- */

void net_rx_run(struct net_pair *pair);
void net_tx_run(struct net_pair *pair);
/* Lose the frame that is not delivered yet, if there is one. */
void net_rx_drop(struct net_rx *rx);
/* Deliver what can be, give back the rest. */
void net_rx_finish(struct net_pair *pair);

/* ---- virtio_net_control.c ---- */

io_handler net_control_kicked;
/* Have the guest use as many pairs. */
int net_pairs_set(struct net *net, uint16_t pairs);

/* ---- virtio_net_tap.c ---- */

/* Prepare a tap, non-blocking, and learn its interface's name; *features loses what it does
 * not take. */
int net_tap_init(int tap, char interface[IF_NAMESIZE], uint64_t *features, kvmshim_error *err);
/* 0 or -errno. */
int net_tap_offload(int tap, uint64_t offloads);
int net_tap_attach(int tap, bool attach);

/* ---- virtio_net_vhost.c ---- */

/* Own the open /dev/vhost-net; *features loses what it does not know. */
int net_vhost_init(struct net_pair *pair, int vhost, uint64_t *features, kvmshim_error *err);
/* Hand the rings to the kernel, from their positions on, and take them back. */
int net_vhost_start(struct net_pair *pair, kvmshim_error *err);
void net_vhost_stop(struct net_pair *pair);

#endif
