/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the tap to the guest. The length of a frame is known only when it has been read, and
 * tun cuts off what finds no room. So the last segment of each readv() is memory of our own:
 * while the guest has enough buffers it stays untouched and nothing is copied, and otherwise
 * it keeps the frame's end until the guest gives more.
 */
#include <errno.h>
#include <string.h>

#include "virtio_net.h"

enum { RX_PUBLISH_BYTES = 64 << 10, RX_PUBLISH_FRAMES = 16 };

static bool mergeable(const struct net_pair *pair)
{
    return virtio_has(&pair->net->virtio, VIRTIO_NET_F_MRG_RXBUF);
}

/* ---- buffers ------------------------------------------------------------- */

/* One readv() takes no more segments; without mergeable buffers a frame is in one. */
static bool rx_may_take(const struct net_pair *pair)
{
    const struct net_rx *rx = &pair->rx;

    return rx->buffer_count == 0 ||
           (mergeable(pair) && rx->segment_count + NET_RX_SEGMENTS < NET_IOV_MAX);
}

/* Take buffers until there is room for `wanted` bytes. False when it did not become so. */
static bool rx_take(struct net_pair *pair, uint64_t wanted)
{
    struct net_rx *rx = &pair->rx;

    while (rx->room < wanted && rx_may_take(pair)) {
        uint32_t segment = rx->first_segment + rx->segment_count;
        uint32_t buffer = rx->first_buffer + rx->buffer_count;
        struct virtqueue_chain chain = {.iov = rx->iov + segment, .capacity = NET_RX_SEGMENTS};

        if (segment + NET_RX_SEGMENTS >= 2 * NET_IOV_MAX || buffer == NET_IOV_MAX) {
            memmove(rx->iov, rx->iov + rx->first_segment, rx->segment_count * sizeof(*rx->iov));
            memmove(rx->buffers, rx->buffers + rx->first_buffer,
                    rx->buffer_count * sizeof(*rx->buffers));
            rx->first_segment = 0;
            rx->first_buffer = 0;
            continue;
        }
        if (!virtqueue_pop(rx->queue, &chain))
            break;
        rx->buffers[buffer] = (struct net_buffer){
            .bytes = chain.writable_bytes,
            .head = chain.head,
            .segments = (uint16_t)chain.writable,
        };
        /* 5.1.6.3.1: each is writable and holds a header at the least. */
        if (chain.readable != 0 || chain.writable_bytes < NET_HEADER) {
            virtqueue_unpop(rx->queue, 1);
            virtio_fail(&pair->net->virtio,
                        "a receive buffer has %u readable segments and %llu writable bytes",
                        chain.readable, (unsigned long long)chain.writable_bytes);
            break;
        }
        rx->buffer_count++;
        rx->segment_count += chain.writable;
        rx->room += chain.writable_bytes;
    }
    return rx->room >= wanted;
}

static void rx_use_buffer(struct net_rx *rx, uint32_t written)
{
    const struct net_buffer *buffer = &rx->buffers[rx->first_buffer];

    virtqueue_push(rx->queue, buffer->head, written);
    rx->first_buffer++;
    rx->buffer_count--;
    rx->first_segment += buffer->segments;
    rx->segment_count -= buffer->segments;
    rx->room -= buffer->bytes;
}

/* ---- one frame ----------------------------------------------------------- */

void net_rx_drop(struct net_rx *rx)
{
    if (rx->frame == 0)
        return;
    rx->frame = 0;
    rx->spilled = 0;
    net_count(&rx->dropped, 1);
}

/* Read a frame into the buffers at hand. 0, or -errno. */
static int rx_read(struct net_pair *pair)
{
    struct net_rx *rx = &pair->rx;
    struct iovec *iov = rx->iov + rx->first_segment;
    ssize_t length;

    iov[rx->segment_count] = (struct iovec){.iov_base = rx->spill, .iov_len = NET_FRAME_MAX};
    do
        length = readv(pair->tap, iov, (int)rx->segment_count + 1);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return -errno;
    if (length < NET_HEADER || length > NET_FRAME_MAX) {
        net_count(&rx->dropped, 1);
        return 0;
    }
    rx->frame = (uint32_t)length;
    if (rx->frame > rx->room)
        rx->spilled = rx->frame - (uint32_t)rx->room;
    return 0;
}

/* What the interface still had queued when the driver changed may not be for the new one. */
static bool header_allowed(struct virtio_net_hdr_v1 *header, uint64_t offloads)
{
    static const uint64_t needed[] = {
        [VIRTIO_NET_HDR_GSO_TCPV4] = NET_BIT(GUEST_TSO4),
        [VIRTIO_NET_HDR_GSO_TCPV6] = NET_BIT(GUEST_TSO6),
        [VIRTIO_NET_HDR_GSO_UDP] = NET_BIT(GUEST_UFO),
    };
    uint8_t type = header->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;

    if (!(offloads & NET_BIT(GUEST_CSUM))) {
        if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
            return false;
        header->flags = 0; /* 5.1.6.4.1 */
    }
    if (header->gso_type & VIRTIO_NET_HDR_GSO_ECN && !(offloads & NET_BIT(GUEST_ECN)))
        return false;
    if (type == VIRTIO_NET_HDR_GSO_NONE)
        return true;
    return type < sizeof(needed) / sizeof(*needed) && offloads & needed[type];
}

/* Bring the end of the frame from our memory to the guest's. False when there is no room yet;
 * a frame that may never have any is dropped. */
static bool rx_place_spilled(struct net_pair *pair)
{
    struct net_rx *rx = &pair->rx;
    struct virtqueue_chain room;

    if (!rx_take(pair, rx->frame)) {
        /* Drivers give new buffers when they have received something, and not for every buffer
         * used: while they have half of them here, none may be coming. */
        if (rx_may_take(pair) && rx->buffer_count < rx->queue->size / 2)
            return false;
        net_rx_drop(rx);
        return true;
    }
    room = (struct virtqueue_chain){
        .iov = rx->iov + rx->first_segment,
        .writable = rx->segment_count,
        .writable_bytes = rx->room,
    };
    virtqueue_write(&room, rx->frame - rx->spilled, rx->spill, rx->spilled);
    rx->spilled = 0;
    return true;
}

/* Give the guest the frame that is in its buffers. */
static void rx_deliver(struct net_pair *pair)
{
    struct net_rx *rx = &pair->rx;
    struct iovec *iov = rx->iov + rx->first_segment;
    const struct virtqueue_chain filled = {
        .iov = iov, .readable = rx->segment_count, .readable_bytes = rx->room};
    const struct virtqueue_chain room = {
        .iov = iov, .writable = rx->segment_count, .writable_bytes = rx->room};
    struct virtio_net_hdr_v1 header;
    uint32_t left = rx->frame;
    uint64_t covered = 0;
    uint16_t buffers = 0;

    virtqueue_read(&filled, 0, &header, NET_HEADER);
    if (!header_allowed(&header,
                        atomic_load_explicit(&pair->net->offloads, memory_order_relaxed))) {
        net_rx_drop(rx);
        return;
    }
    while (covered < rx->frame)
        covered += rx->buffers[rx->first_buffer + buffers++].bytes;
    header.num_buffers = buffers;
    virtqueue_write(&room, 0, &header, NET_HEADER);
    net_count(&rx->frames, 1);
    net_count(&rx->bytes, rx->frame - NET_HEADER);
    rx->frame = 0;
    while (left != 0) {
        uint64_t bytes = rx->buffers[rx->first_buffer].bytes;
        uint32_t part = bytes < left ? (uint32_t)bytes : left;

        rx_use_buffer(rx, part);
        left -= part;
    }
}

/* ---- a turn -------------------------------------------------------------- */

/* Wait for buffers, unless some came just now. */
static bool rx_starve(struct net_rx *rx)
{
    virtqueue_publish(rx->queue);
    if (virtqueue_enable_kicks(rx->queue)) {
        virtqueue_disable_kicks(rx->queue);
        return false;
    }
    rx->starved = true;
    return true;
}

/* Have a frame in the buffers, and its end in our memory if need be. False when there is none,
 * or no buffer. */
static bool rx_fetch(struct net_pair *pair)
{
    struct net_rx *rx = &pair->rx;
    int rc;

    while (!rx_take(pair, rx->wanted) && rx->buffer_count == 0) {
        if (rx_starve(rx))
            return false;
    }
    rc = rx_read(pair);
    switch (rc) {
    case 0:
        return true;
    case -EAGAIN:
        return false;
    case -EFAULT:
    case -ENOMEM:
    case -ENOBUFS:
        net_count(&rx->dropped, 1);
        return false;
    default:
        net_pair_lost(pair, rc);
        return false;
    }
}

/* Bring a frame as far as it goes. False when the turn ends here: the tap is empty, or the
 * frame waits for buffers or for the limiter. */
static bool rx_frame(struct net_pair *pair)
{
    struct net_rx *rx = &pair->rx;

    if (rx->frame == 0 && !rx_fetch(pair))
        return false;
    while (rx->spilled != 0 && !rx_place_spilled(pair)) {
        if (rx_starve(rx))
            return false;
    }
    if (rx->frame == 0)
        return true;
    if (!net_gate_pass(&rx->gate, rx->frame - NET_HEADER))
        return false;
    rx_deliver(pair);
    return true;
}

void net_rx_run(struct net_pair *pair)
{
    struct net_rx *rx = &pair->rx;
    const uint64_t start = atomic_load_explicit(&rx->bytes, memory_order_relaxed);
    uint64_t published = start, bytes = start;
    uint32_t frames = 0;

    if (!pair->attached || pair->lost || rx->gate.closed)
        return;
    rx->starved = false;
    virtqueue_disable_kicks(rx->queue);
    while (frames < NET_TURN_FRAMES && bytes - start < NET_TURN_BYTES && rx_frame(pair)) {
        bytes = atomic_load_explicit(&rx->bytes, memory_order_relaxed);
        /* The guest may work on what it has while we read on. */
        if (++frames % RX_PUBLISH_FRAMES == 0 || bytes - published >= RX_PUBLISH_BYTES) {
            virtqueue_publish(rx->queue);
            published = bytes;
        }
    }
    virtqueue_publish(rx->queue);
    net_pair_watch_tap(pair);
}

void net_rx_finish(struct net_pair *pair)
{
    struct net_rx *rx = &pair->rx;

    /* The limiter lets this one pass: the tap does not take it back. */
    if (rx->spilled != 0)
        net_rx_drop(rx);
    else if (rx->frame != 0)
        rx_deliver(pair);
    virtqueue_publish(rx->queue);
    virtqueue_unpop(rx->queue, (uint16_t)rx->buffer_count);
    rx->buffer_count = 0;
    rx->segment_count = 0;
    rx->first_buffer = 0;
    rx->first_segment = 0;
    rx->room = 0;
    rx->starved = false;
}
