/* SPDX-License-Identifier: Apache-2.0 */
/* The control queue (5.1.6.5), in the thread of pair 0. */
#include <errno.h>

#include "virtio_net.h"

enum { CONTROL_TURN = 16, CONTROL_SEGMENTS = 64 };

struct attachment {
    struct net_pair *pair;
    bool attach;
    int rc;
};

static void attach(void *opaque)
{
    struct attachment *attachment = opaque;

    attachment->rc = net_pair_attach(attachment->pair, attachment->attach);
}

int net_pairs_set(struct net *net, uint16_t pairs)
{
    int rc = 0;

    for (uint16_t i = 1; rc == 0 && i < net->pair_count; i++) {
        struct attachment wanted = {.pair = &net->pairs[i], .attach = i < pairs};

        if (wanted.pair->attached == wanted.attach)
            continue;
        /* 5.1.6.5.6.2: nothing is to come by a queue above once this is acknowledged. */
        if (wanted.pair->thread.started)
            io_thread_call(&wanted.pair->thread, attach, &wanted);
        else
            attach(&wanted);
        rc = wanted.rc;
    }
    if (rc == 0)
        net->active = pairs;
    return rc;
}

/* The data of a command, of exactly this size. */
static bool data_of(const struct virtqueue_chain *chain, void *data, uint64_t size)
{
    const uint64_t offset = sizeof(struct virtio_net_ctrl_hdr);

    return chain->readable_bytes == offset + size &&
           virtqueue_read(chain, offset, data, size) == size;
}

/* The tap gives us every frame, which is within what a filter may do (5.1.6.5.1): the modes
 * and the table of addresses are accepted and ask for nothing. */
static bool rx_mode(const struct virtqueue_chain *chain, uint8_t command)
{
    uint8_t on;

    return command <= VIRTIO_NET_CTRL_RX_ALLMULTI && data_of(chain, &on, sizeof(on)) && on <= 1;
}

static bool mac_table(const struct virtqueue_chain *chain)
{
    uint64_t offset = sizeof(struct virtio_net_ctrl_hdr);

    for (int table = 0; table < 2; table++) { /* unicast, multicast */
        uint32_t entries;

        if (virtqueue_read(chain, offset, &entries, sizeof(entries)) != sizeof(entries))
            return false;
        offset += sizeof(entries) + (uint64_t)entries * ETH_ALEN;
    }
    return offset == chain->readable_bytes;
}

static bool mac_address(struct net *net, const struct virtqueue_chain *chain)
{
    uint8_t mac[ETH_ALEN];

    if (!data_of(chain, mac, sizeof(mac)))
        return false;
    virtio_config_set(&net->virtio, offsetof(struct virtio_net_config, mac), mac, sizeof(mac));
    return true;
}

static bool announced(struct net *net, const struct virtqueue_chain *chain)
{
    if (chain->readable_bytes != sizeof(struct virtio_net_ctrl_hdr))
        return false;
    net_status_change(net, 0, VIRTIO_NET_S_ANNOUNCE);
    return true;
}

static bool queue_pairs(struct net *net, const struct virtqueue_chain *chain)
{
    uint16_t pairs;

    return data_of(chain, &pairs, sizeof(pairs)) && pairs >= 1 && pairs <= net->pair_count &&
           net_pairs_set(net, pairs) == 0;
}

static bool offloads(struct net *net, const struct virtqueue_chain *chain)
{
    uint64_t wanted;

    if (!data_of(chain, &wanted, sizeof(wanted)) ||
        wanted & ~(net->virtio.features & NET_GUEST_OFFLOADS) ||
        net_tap_offload(net->pairs[0].tap, wanted) < 0)
        return false;
    atomic_store(&net->offloads, wanted);
    return true;
}

static bool obey(struct net *net, const struct virtqueue_chain *chain)
{
    const struct virtio_device *device = &net->virtio;
    struct virtio_net_ctrl_hdr header;

    if (virtqueue_read(chain, 0, &header, sizeof(header)) != sizeof(header))
        return false;
    switch (header.class << 8 | header.cmd) {
    case VIRTIO_NET_CTRL_RX << 8 | VIRTIO_NET_CTRL_RX_PROMISC:
    case VIRTIO_NET_CTRL_RX << 8 | VIRTIO_NET_CTRL_RX_ALLMULTI:
        return virtio_has(device, VIRTIO_NET_F_CTRL_RX) && rx_mode(chain, header.cmd);
    case VIRTIO_NET_CTRL_MAC << 8 | VIRTIO_NET_CTRL_MAC_TABLE_SET:
        return virtio_has(device, VIRTIO_NET_F_CTRL_RX) && mac_table(chain);
    case VIRTIO_NET_CTRL_MAC << 8 | VIRTIO_NET_CTRL_MAC_ADDR_SET:
        return virtio_has(device, VIRTIO_NET_F_CTRL_MAC_ADDR) && mac_address(net, chain);
    case VIRTIO_NET_CTRL_ANNOUNCE << 8 | VIRTIO_NET_CTRL_ANNOUNCE_ACK:
        return virtio_has(device, VIRTIO_NET_F_GUEST_ANNOUNCE) && announced(net, chain);
    case VIRTIO_NET_CTRL_MQ << 8 | VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET:
        return virtio_has(device, VIRTIO_NET_F_MQ) && queue_pairs(net, chain);
    case VIRTIO_NET_CTRL_GUEST_OFFLOADS << 8 | VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET:
        return virtio_has(device, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) && offloads(net, chain);
    default:
        return false;
    }
}

void net_control_kicked(void *opaque, uint32_t events)
{
    struct net *net = opaque;
    struct virtqueue *queue = net->control;
    struct iovec iov[CONTROL_SEGMENTS];

    (void)events;
    virtqueue_kicked(queue);
    for (int turn = 0; turn < CONTROL_TURN; turn++) {
        struct virtqueue_chain chain = {.iov = iov, .capacity = CONTROL_SEGMENTS};
        uint8_t ack;

        if (!virtqueue_pop(queue, &chain)) {
            virtqueue_publish(queue);
            return;
        }
        ack = obey(net, &chain) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
        virtqueue_push(queue, chain.head,
                       (uint32_t)virtqueue_write(&chain, 0, &ack, sizeof(ack)));
    }
    virtqueue_publish(queue);
    virtqueue_kick(queue); /* the rest after the others' turn */
}
