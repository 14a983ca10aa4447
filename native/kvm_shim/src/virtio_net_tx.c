/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the guest to the tap: one writev() for each chain. The header is read once, checked and
 * sent from our own copy, so that the kernel sees what was checked; the frame goes straight
 * from the guest's memory.
 */
#include <errno.h>

#include "virtio_net.h"

/* May the guest say this of a frame? The kernel judges the numbers (EINVAL). */
static bool header_allowed(const struct virtio_device *device,
                           const struct virtio_net_hdr_v1 *header)
{
    if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && !virtio_has(device, VIRTIO_NET_F_CSUM))
        return false;
    if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE)
        return true;
    /* 5.1.6.2.1: a frame to be segmented has its checksum to be computed, too. */
    if (!(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
        (header->gso_type & VIRTIO_NET_HDR_GSO_ECN && !virtio_has(device, VIRTIO_NET_F_HOST_ECN)))
        return false;
    switch (header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
        return virtio_has(device, VIRTIO_NET_F_HOST_TSO4);
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return virtio_has(device, VIRTIO_NET_F_HOST_TSO6);
    case VIRTIO_NET_HDR_GSO_UDP:
        return virtio_has(device, VIRTIO_NET_F_HOST_UFO);
    default:
        return false;
    }
}

/* Put our header in the place of the guest's. The chain is in iov[1] and after, and at least
 * as long as a header; returns the first of `*count` segments to send. */
static struct iovec *replace_header(struct iovec *iov, uint32_t segments,
                                    struct virtio_net_hdr_v1 *header, uint32_t *count)
{
    size_t left = NET_HEADER;
    uint32_t i = 1;

    for (;;) {
        size_t part = iov[i].iov_len < left ? iov[i].iov_len : left;

        iov[i].iov_base = (uint8_t *)iov[i].iov_base + part;
        iov[i].iov_len -= part;
        left -= part;
        if (left == 0)
            break;
        i++;
    }
    iov[i - 1] = (struct iovec){.iov_base = header, .iov_len = NET_HEADER};
    *count = segments - i + 2;
    return &iov[i - 1];
}

static int tap_write(int tap, const struct iovec *iov, uint32_t count)
{
    ssize_t written;

    do
        written = writev(tap, iov, (int)count);
    while (written < 0 && errno == EINTR);
    return written < 0 ? -errno : 0;
}

/* Send one frame. -EAGAIN when the tap takes none at present; whatever else goes wrong costs
 * the frame only. */
static int tx_send(struct net_pair *pair, const struct virtqueue_chain *chain)
{
    struct net_tx *tx = &pair->tx;
    struct virtio_device *device = &pair->net->virtio;
    struct virtio_net_hdr_v1 header;
    struct iovec *iov;
    uint32_t count;
    int rc;

    if (!pair->attached || pair->lost) {
        net_count(&tx->dropped, 1);
        return 0;
    }
    virtqueue_read(chain, 0, &header, NET_HEADER);
    if (!header_allowed(device, &header)) {
        net_count(&tx->malformed, 1);
        return 0;
    }
    header.flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM; /* 5.1.6.2.2: others are to be ignored */
    header.num_buffers = 0;
    iov = replace_header(tx->iov, chain->readable, &header, &count);
    rc = tap_write(pair->tap, iov, count);
    switch (rc) {
    case 0:
        net_count(&tx->frames, 1);
        net_count(&tx->bytes, chain->readable_bytes - NET_HEADER);
        return 0;
    case -EAGAIN:
        return rc;
    case -EINVAL:
    case -EMSGSIZE:
        net_count(&tx->malformed, 1);
        return 0;
    case -EBADFD:
        net_pair_lost(pair, rc);
        break;
    case -EIO:
        virtio_log(device, "the interface %s is down, and the guest's frames are lost: "
                   "'ip link set %s up' lets them through", pair->interface, pair->interface);
        break;
    default: /* ENOBUFS, ENOMEM: the host is short of memory, and a network may lose frames */
        break;
    }
    net_count(&tx->dropped, 1);
    return 0;
}

/* True when the chain is done with: sent, or lost. */
static bool tx_chain(struct net_pair *pair, const struct virtqueue_chain *chain)
{
    struct net_tx *tx = &pair->tx;
    uint64_t bytes;

    if (chain->readable_bytes <= NET_HEADER || chain->readable_bytes > NET_FRAME_MAX) {
        net_count(&tx->malformed, 1);
        return true;
    }
    bytes = chain->readable_bytes - NET_HEADER;
    if (!net_gate_pass(&tx->gate, bytes))
        return false;
    if (tx_send(pair, chain) == 0)
        return true;
    limiter_return(tx->gate.limiter, bytes, 1);
    tx->blocked = true;
    net_pair_watch_tap(pair);
    return false;
}

void net_tx_run(struct net_pair *pair)
{
    struct net_tx *tx = &pair->tx;
    uint64_t bytes = 0;

    if (tx->blocked || tx->gate.closed)
        return;
    virtqueue_disable_kicks(tx->queue);
    for (uint32_t frames = 0; frames < NET_TURN_FRAMES && bytes < NET_TURN_BYTES; frames++) {
        struct virtqueue_chain chain = {.iov = tx->iov + 1, .capacity = NET_IOV_MAX - 1};

        if (!virtqueue_pop(tx->queue, &chain)) {
            virtqueue_publish(tx->queue);
            if (!virtqueue_enable_kicks(tx->queue))
                return;
            virtqueue_disable_kicks(tx->queue);
            continue;
        }
        if (!tx_chain(pair, &chain)) {
            virtqueue_unpop(tx->queue, 1);
            virtqueue_publish(tx->queue);
            return;
        }
        bytes += chain.readable_bytes;
        virtqueue_push(tx->queue, chain.head, 0);
    }
    virtqueue_publish(tx->queue);
    virtqueue_kick(tx->queue); /* the rest after the others' turn */
}
