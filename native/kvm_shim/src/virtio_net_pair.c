/* SPDX-License-Identifier: Apache-2.0 */
/* A queue pair: its queue of the tap, its thread, and what that waits for. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"
#include "virtio_net.h"

#define NS_PER_S UINT64_C(1000000000)

/* ---- what the thread is woken by ----------------------------------------- */

static void rx_kicked(void *opaque, uint32_t events)
{
    struct net_pair *pair = opaque;

    (void)events;
    virtqueue_kicked(pair->rx.queue);
    net_rx_run(pair);
}

static void tx_kicked(void *opaque, uint32_t events)
{
    struct net_pair *pair = opaque;

    (void)events;
    virtqueue_kicked(pair->tx.queue);
    net_tx_run(pair);
}

static void tap_ready(void *opaque, uint32_t events)
{
    struct net_pair *pair = opaque;

    if (events & (EPOLLERR | EPOLLHUP)) {
        net_pair_lost(pair, -ENODEV);
        return;
    }
    if (events & EPOLLIN)
        net_rx_run(pair);
    if (events & EPOLLOUT && pair->tx.blocked) {
        pair->tx.blocked = false;
        net_pair_watch_tap(pair);
        net_tx_run(pair);
    }
}

static void gate_open(struct net_gate *gate)
{
    uint64_t fired;

    while (read(gate->timer, &fired, sizeof(fired)) < 0 && errno == EINTR)
        ;
    gate->closed = false;
}

static void rx_gate_fired(void *opaque, uint32_t events)
{
    struct net_pair *pair = opaque;

    (void)events;
    gate_open(&pair->rx.gate);
    net_rx_run(pair);
}

static void tx_gate_fired(void *opaque, uint32_t events)
{
    struct net_pair *pair = opaque;

    (void)events;
    gate_open(&pair->tx.gate);
    net_tx_run(pair);
}

/* ---- rate limits --------------------------------------------------------- */

bool net_gate_pass(struct net_gate *gate, uint64_t bytes)
{
    const uint64_t wait = limiter_take(gate->limiter, bytes, 1);
    const struct itimerspec timer = {
        .it_value = {.tv_sec = (time_t)(wait / NS_PER_S), .tv_nsec = (long)(wait % NS_PER_S)}};

    if (wait == 0)
        return true;
    gate->closed = true;
    net_count(&gate->closed_ns, wait);
    timerfd_settime(gate->timer, 0, &timer, NULL);
    return false;
}

static int gate_init(struct net_gate *gate, struct limiter *limiter, kvmshim_error *err)
{
    gate->limiter = limiter;
    gate->timer = -1;
    if (limiter == NULL)
        return 0;
    gate->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return gate->timer < 0 ? error_set(err, -errno, "net: timerfd_create") : 0;
}

static void gate_free(struct net_gate *gate)
{
    if (gate->timer >= 0)
        close(gate->timer);
}

/* ---- the tap ------------------------------------------------------------- */

void net_pair_watch_tap(struct net_pair *pair)
{
    uint32_t events = 0;

    if (!pair->rx.starved && !pair->rx.gate.closed)
        events |= EPOLLIN;
    if (pair->tx.blocked)
        events |= EPOLLOUT;
    io_thread_change(&pair->thread, &pair->tap_watch, events);
}

void net_pair_lost(struct net_pair *pair, int error)
{
    if (pair->lost)
        return;
    pair->lost = true;
    net_rx_drop(&pair->rx);
    /* epoll would report the end over and over. */
    io_thread_forget(&pair->thread, &pair->tap_watch);
    virtio_log(&pair->net->virtio, "the interface %s is gone (%s): the guest's link is down until "
               "the VM is shut down and booted", pair->interface, strerror(-error));
    net_status_change(pair->net, 0, VIRTIO_NET_S_LINK_UP);
    if (pair->tx.blocked) {
        pair->tx.blocked = false;
        virtqueue_kick(pair->tx.queue);
    }
}

/* Have frames moved between the tap and the rings. */
static int run(struct net_pair *pair, kvmshim_error *err)
{
    if (!pair->running || !pair->attached || pair->lost)
        return 0;
    if (pair->vhost >= 0)
        return net_vhost_start(pair, err);
    return io_thread_watch(&pair->thread, &pair->tap_watch, pair->tap, EPOLLIN, tap_ready, pair,
                           err);
}

int net_pair_attach(struct net_pair *pair, bool attach)
{
    int rc;

    if (pair->lost || pair->attached == attach)
        return 0;
    if (!attach) {
        net_vhost_stop(pair);
        io_thread_forget(&pair->thread, &pair->tap_watch);
        net_rx_drop(&pair->rx);
        pair->tx.blocked = false;
    }
    rc = net_tap_attach(pair->tap, attach);
    if (rc == 0) {
        pair->attached = attach;
        rc = run(pair, NULL);
    }
    if (rc < 0)
        virtio_log(&pair->net->virtio, "queue %u of the interface %s cannot be %s: %s",
                   pair->index, pair->interface, attach ? "attached" : "detached", strerror(-rc));
    return rc;
}

/* ---- life ---------------------------------------------------------------- */

int net_pair_init(struct net_pair *pair, struct net *net, uint16_t index, int tap,
                  struct limiter *rx, struct limiter *tx, kvmshim_error *err)
{
    int rc;

    pair->net = net;
    pair->index = index;
    pair->vhost = -1;
    pair->attached = true;
    pair->tx.gate.timer = -1;
    pair->rx.gate.timer = -1;
    pair->tap = fcntl(tap, F_DUPFD_CLOEXEC, 0);
    if (pair->tap < 0)
        return error_set(err, -errno, "net: duplicate the tap, fd %d", tap);
    rc = gate_init(&pair->rx.gate, rx, err);
    return rc < 0 ? rc : gate_init(&pair->tx.gate, tx, err);
}

void net_pair_free(struct net_pair *pair)
{
    io_thread_stop(&pair->thread);
    if (!pair->attached)
        net_tap_attach(pair->tap, true);
    gate_free(&pair->rx.gate);
    gate_free(&pair->tx.gate);
    if (pair->vhost >= 0)
        close(pair->vhost);
    if (pair->tap >= 0)
        close(pair->tap);
}

static int watch_queue(struct net_pair *pair, struct virtqueue *queue, struct io_watch *kick,
                       io_handler *kicked, struct net_gate *gate, io_handler *fired,
                       kvmshim_error *err)
{
    int rc;

    if (!queue->enabled)
        return 0;
    rc = io_thread_watch(&pair->thread, kick, queue->kick_fd, EPOLLIN, kicked, pair, err);
    if (rc == 0 && gate->timer >= 0)
        rc = io_thread_watch(&pair->thread, &gate->watch, gate->timer, EPOLLIN, fired, pair, err);
    virtqueue_kick(queue);
    return rc;
}

/* Room for the longest frame that the guest takes; a longer one is copied in part. */
static uint64_t room_wanted(const struct net *net)
{
    const uint64_t segmented = NET_BIT(GUEST_TSO4) | NET_BIT(GUEST_TSO6) | NET_BIT(GUEST_UFO);
    const uint16_t mtu = net->mtu != 0 ? net->mtu : ETH_DATA_LEN;

    if (net->virtio.features & segmented)
        return NET_FRAME_MAX;
    return (uint64_t)NET_HEADER + NET_ETHERNET + mtu;
}

int net_pair_start(struct net_pair *pair, kvmshim_error *err)
{
    int rc = 0;

    pair->running = true;
    if (pair->vhost < 0) {
        pair->rx.wanted = room_wanted(pair->net);
        rc = watch_queue(pair, pair->rx.queue, &pair->rx.kick, rx_kicked, &pair->rx.gate,
                         rx_gate_fired, err);
        if (rc == 0)
            rc = watch_queue(pair, pair->tx.queue, &pair->tx.kick, tx_kicked, &pair->tx.gate,
                             tx_gate_fired, err);
    }
    return rc < 0 ? rc : run(pair, err);
}

void net_pair_stop(struct net_pair *pair)
{
    pair->running = false;
    if (pair->vhost >= 0) {
        net_vhost_stop(pair);
        return;
    }
    io_thread_forget(&pair->thread, &pair->rx.kick);
    io_thread_forget(&pair->thread, &pair->tx.kick);
    io_thread_forget(&pair->thread, &pair->rx.gate.watch);
    io_thread_forget(&pair->thread, &pair->tx.gate.watch);
    io_thread_forget(&pair->thread, &pair->tap_watch);
    net_rx_finish(pair);
    pair->tx.blocked = false;
    pair->rx.gate.closed = false;
    pair->tx.gate.closed = false;
}
