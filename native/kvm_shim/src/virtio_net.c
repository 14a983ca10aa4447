/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_net.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "error.h"
#include "kvm_shim_seccomp.h"

enum {
    NET_CLASS = 0x020000, /* Ethernet controller */
    NET_CONTROL_SIZE = 64,
    NET_CONFIG_SIZE = offsetof(struct virtio_net_config, speed),
};

/* Address and status are in the configuration space, which the transport saves. */
struct net_state {
    uint16_t active;
    uint64_t offloads;
} __attribute__((packed));

static void config_read(struct net *net, struct virtio_net_config *config)
{
    pthread_mutex_lock(&net->virtio.config_lock);
    memcpy(config, net->virtio.config, NET_CONFIG_SIZE);
    pthread_mutex_unlock(&net->virtio.config_lock);
}

/* While there is no driver to be told. */
static void config_write(struct net *net, const struct virtio_net_config *config)
{
    pthread_mutex_lock(&net->virtio.config_lock);
    memcpy(net->virtio.config, config, NET_CONFIG_SIZE);
    pthread_mutex_unlock(&net->virtio.config_lock);
}

void net_status_change(struct net *net, uint16_t set, uint16_t clear)
{
    struct virtio_net_config config;
    uint16_t status;

    config_read(net, &config);
    status = (uint16_t)((config.status | set) & ~clear);
    if (status != config.status)
        virtio_config_set(&net->virtio, offsetof(struct virtio_net_config, status), &status,
                          sizeof(status));
}

/* ---- start and stop ------------------------------------------------------ */

/* The control queue follows the pairs, of which there is one unless MQ says more (5.1.2). */
static uint16_t pairs_in_use(const struct net *net)
{
    return virtio_has(&net->virtio, VIRTIO_NET_F_MQ) ? net->pair_count : 1;
}

static void net_run_down(struct net *net)
{
    struct io_thread *thread = &net->pairs[0].thread;

    for (uint16_t i = 0; i < pairs_in_use(net); i++)
        net_pair_stop(&net->pairs[i]);
    io_thread_forget(thread, &net->control_kick);
    io_thread_forget(thread, &net->vhost_error_watch);
}

static void vhost_failed(void *opaque, uint32_t events)
{
    struct net *net = opaque;
    eventfd_t count;

    (void)events;
    eventfd_read(net->vhost_error, &count);
    virtio_fail(&net->virtio, "the kernel's vhost-net found a queue broken");
}

static int watch_control(struct net *net, kvmshim_error *err)
{
    struct io_thread *thread = &net->pairs[0].thread;
    struct virtqueue *queue = &net->virtio.queues[2 * pairs_in_use(net)];
    int rc = 0;

    net->control = queue;
    if (virtio_has(&net->virtio, VIRTIO_NET_F_CTRL_VQ) && queue->enabled) {
        rc = io_thread_watch(thread, &net->control_kick, queue->kick_fd, EPOLLIN,
                             net_control_kicked, net, err);
        virtqueue_kick(queue);
    }
    if (rc == 0 && net->vhost_error >= 0)
        rc = io_thread_watch(thread, &net->vhost_error_watch, net->vhost_error, EPOLLIN,
                             vhost_failed, net, err);
    return rc;
}

static int net_start(struct virtio_device *device, kvmshim_error *err)
{
    struct net *net = (struct net *)device;
    int rc;

    for (uint16_t i = 0; i < net->pair_count; i++) {
        net->pairs[i].rx.queue = &device->queues[2 * i];
        net->pairs[i].tx.queue = &device->queues[2 * i + 1];
    }
    if (net->active == 0) { /* a driver begins */
        net->active = 1;
        atomic_store(&net->offloads, device->features & NET_GUEST_OFFLOADS);
    }
    rc = net_tap_offload(net->pairs[0].tap, atomic_load(&net->offloads));
    if (rc == -EBADFD)
        net_pair_lost(&net->pairs[0], rc);
    else if (rc < 0)
        return error_set(err, rc, "tap: set the offloads that the driver takes");
    rc = net_pairs_set(net, net->active);
    if (rc < 0)
        return error_set(err, rc, "tap: have %u queues", net->active);

    rc = watch_control(net, err);
    for (uint16_t i = 0; rc == 0 && i < pairs_in_use(net); i++)
        rc = net_pair_start(&net->pairs[i], err);
    if (rc < 0) {
        net_run_down(net);
        return rc;
    }
    if (net->loaded && virtio_has(device, VIRTIO_NET_F_GUEST_ANNOUNCE))
        net_status_change(net, VIRTIO_NET_S_ANNOUNCE, 0);
    net->loaded = false;
    for (uint16_t i = 0; i < net->pair_count; i++) {
        if (net->pairs[i].thread.started)
            io_thread_release(&net->pairs[i].thread);
    }
    return 0;
}

static int net_stop(struct virtio_device *device, uint64_t deadline_ns)
{
    struct net *net = (struct net *)device;

    for (uint16_t i = 0; i < net->pair_count; i++) {
        struct io_thread *thread = &net->pairs[i].thread;

        if (!thread->started || io_thread_hold(thread, deadline_ns) == 0)
            continue;
        while (i-- > 0)
            io_thread_release(&net->pairs[i].thread);
        return -ETIMEDOUT;
    }
    net_run_down(net);
    return 0;
}

/* ---- state --------------------------------------------------------------- */

static void net_reset(struct virtio_device *device)
{
    struct net *net = (struct net *)device;
    struct virtio_net_config config;

    net->active = 0;
    net->loaded = false;
    config_read(net, &config);
    memcpy(config.mac, net->mac, ETH_ALEN);
    config.status &= (uint16_t)~VIRTIO_NET_S_ANNOUNCE;
    config_write(net, &config);
}

static void net_save(struct virtio_device *device, void *state)
{
    struct net *net = (struct net *)device;
    struct net_state *saved = state;

    saved->active = net->active;
    saved->offloads = atomic_load(&net->offloads);
}

static bool link_up(const struct net *net)
{
    for (uint16_t i = 0; i < net->pair_count; i++)
        if (net->pairs[i].lost)
            return false;
    return true;
}

static int net_load(struct virtio_device *device, const void *state, kvmshim_error *err)
{
    struct net *net = (struct net *)device;
    const struct net_state *saved = state;
    const uint64_t offered = device->offered & NET_GUEST_OFFLOADS;
    struct virtio_net_config config;

    config_read(net, &config);
    if (config.max_virtqueue_pairs != net->pair_count || saved->active > net->pair_count)
        return error_set(err, -EINVAL, "virtio-net state: %u of %u queue pairs in use, there are "
                         "%u", saved->active, config.max_virtqueue_pairs, net->pair_count);
    if (saved->offloads & ~offered)
        return error_set(err, -EINVAL, "virtio-net state: offloads 0x%llx of 0x%llx",
                         (unsigned long long)saved->offloads, (unsigned long long)offered);
    if (config.status & ~(VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE))
        return error_set(err, -EINVAL, "virtio-net state: status 0x%04x", config.status);
    net->active = saved->active;
    net->loaded = true;
    atomic_store(&net->offloads, saved->offloads);
    config.status &= VIRTIO_NET_S_ANNOUNCE;
    if (link_up(net)) /* of the tap here, not there */
        config.status |= VIRTIO_NET_S_LINK_UP;
    config_write(net, &config);
    return 0;
}

static void net_counters(struct virtio_device *device, struct counters *counters)
{
    struct net *net = (struct net *)device;
    uint64_t rx_frames = 0, rx_bytes = 0, rx_dropped = 0, throttled_ns = 0;
    uint64_t tx_frames = 0, tx_bytes = 0, tx_dropped = 0, tx_malformed = 0;

    if (net->vhost_error >= 0)
        return; /* only the kernel knows */
    for (uint16_t i = 0; i < net->pair_count; i++) {
        struct net_pair *pair = &net->pairs[i];

        rx_frames += atomic_load(&pair->rx.frames);
        rx_bytes += atomic_load(&pair->rx.bytes);
        rx_dropped += atomic_load(&pair->rx.dropped);
        tx_frames += atomic_load(&pair->tx.frames);
        tx_bytes += atomic_load(&pair->tx.bytes);
        tx_dropped += atomic_load(&pair->tx.dropped);
        tx_malformed += atomic_load(&pair->tx.malformed);
        throttled_ns += atomic_load(&pair->rx.gate.closed_ns);
        throttled_ns += atomic_load(&pair->tx.gate.closed_ns);
    }
    counters_add(counters, rx_bytes, "rx_bytes");
    counters_add(counters, rx_frames, "rx_frames");
    counters_add(counters, rx_dropped, "rx_dropped");
    counters_add(counters, tx_bytes, "tx_bytes");
    counters_add(counters, tx_frames, "tx_frames");
    counters_add(counters, tx_dropped, "tx_dropped");
    counters_add(counters, tx_malformed, "tx_malformed");
    counters_add(counters, throttled_ns / 1000, "throttled_us");
}

/* ---- life ---------------------------------------------------------------- */

static void net_free(struct net *net)
{
    for (uint16_t i = 0; i < net->pair_count; i++)
        net_pair_free(&net->pairs[i]);
    if (net->vhost_error >= 0)
        close(net->vhost_error);
    free(net);
}

static void net_destroy(struct virtio_device *device)
{
    net_free((struct net *)device);
}

static const struct virtio_ops net_ops = {
    .name = "virtio-net",
    .type = VIRTIO_ID_NET,
    .class_code = NET_CLASS,
    .version = 1,
    .state_size = sizeof(struct net_state),
    .start = net_start,
    .stop = net_stop,
    .destroy = net_destroy,
    .reset = net_reset,
    .save = net_save,
    .load = net_load,
    .counters = net_counters,
};

static uint64_t features_of(const kvmshim_net_config *config)
{
    uint64_t features = NET_BIT(MAC) | NET_BIT(STATUS) | NET_BIT(MRG_RXBUF) | NET_BIT(CTRL_VQ) |
                        NET_BIT(CTRL_RX) | NET_BIT(CTRL_MAC_ADDR) | NET_BIT(GUEST_ANNOUNCE);

    if (config->mtu != 0)
        features |= NET_BIT(MTU);
    if (config->queue_pairs > 1)
        features |= NET_BIT(MQ);
    if (config->offload_csum)
        features |= NET_BIT(CSUM) | NET_BIT(GUEST_CSUM);
    /* 5.1.3.1: segmentation requires checksums. */
    if (config->offload_csum && config->offload_tso)
        features |= NET_BIT(HOST_TSO4) | NET_BIT(HOST_TSO6) | NET_BIT(HOST_ECN) |
                    NET_BIT(GUEST_TSO4) | NET_BIT(GUEST_TSO6) | NET_BIT(GUEST_ECN);
    if (config->offload_csum && config->offload_ufo)
        features |= NET_BIT(HOST_UFO) | NET_BIT(GUEST_UFO);
    return features;
}

static int check_config(const kvmshim_net_config *config, kvmshim_error *err)
{
    if (config->queue_pairs < 1 || config->queue_pairs > NET_PAIRS_MAX)
        return error_set(err, -EINVAL, "net: %u queue pairs, may be 1 to %u", config->queue_pairs,
                         NET_PAIRS_MAX);
    if (config->queue_size < 4 || config->queue_size > VIRTQUEUE_SIZE_MAX ||
        (config->queue_size & (config->queue_size - 1)) != 0)
        return error_set(err, -EINVAL, "net: queue size %u, may be a power of two from 4 to %u",
                         config->queue_size, VIRTQUEUE_SIZE_MAX);
    if (config->mtu != 0 && config->mtu < ETH_MIN_MTU)
        return error_set(err, -EINVAL, "net: MTU %u, may be %u to 65535", config->mtu,
                         ETH_MIN_MTU);
    if (config->vhosts != NULL && (config->rx_limiter != NULL || config->tx_limiter != NULL))
        return error_set(err, -EINVAL, "net: vhost-net does not know rate limits");
    return 0;
}

/* Everything but the transport. What was made stays for net_free(). */
static int net_build(struct net *net, const kvmshim_vm *vm, const kvmshim_place *place,
                     const kvmshim_net_config *config, uint64_t *features, kvmshim_error *err)
{
    struct limiter *rx = NULL, *tx = NULL;
    char name[16];
    int rc = limiter_of(config->rx_limiter, &rx, err);

    if (rc == 0)
        rc = limiter_of(config->tx_limiter, &tx, err);
    if (rc == 0 && config->vhosts != NULL) {
        net->vhost_error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (net->vhost_error < 0)
            rc = error_set(err, -errno, "net: eventfd");
    }
    for (uint16_t i = 0; rc == 0 && i < config->queue_pairs; i++) {
        struct net_pair *pair = &net->pairs[i];

        net->pair_count++;
        rc = net_pair_init(pair, net, i, config->taps[i], rx, tx, err);
        if (rc == 0)
            rc = net_tap_init(pair->tap, pair->interface, features, err);
        if (rc == 0 && config->vhosts != NULL)
            rc = net_vhost_init(pair, config->vhosts[i], features, err);
        snprintf(name, sizeof(name), "%.8s-%u", place->id, i);
        if (rc == 0 && (i == 0 || config->vhosts == NULL))
            rc = io_thread_start(&pair->thread, vm, KVMSHIM_THREAD_NET, name, err);
    }
    return rc;
}

int kvmshim_net_create(kvmshim_vm *vm, const kvmshim_place *place,
                       const kvmshim_net_config *config, kvmshim_device **device,
                       kvmshim_error *err)
{
    uint16_t queue_sizes[2 * NET_PAIRS_MAX + 1];
    struct virtio_net_config space = {.status = VIRTIO_NET_S_LINK_UP};
    uint64_t features = features_of(config);
    uint16_t queues = 0;
    struct net *net;
    int rc = check_config(config, err);

    if (rc < 0)
        return rc;
    net = calloc(1, sizeof(*net) + config->queue_pairs * sizeof(net->pairs[0]));
    if (net == NULL)
        return error_set(err, -ENOMEM, "net: allocate");
    net->vhost_error = -1;
    net->mtu = config->mtu;
    memcpy(net->mac, config->mac, ETH_ALEN);
    rc = net_build(net, vm, place, config, &features, err);
    if (rc < 0)
        goto fail;
    if (features & NET_GUEST_OFFLOADS)
        features |= NET_BIT(CTRL_GUEST_OFFLOADS);

    memcpy(space.mac, config->mac, ETH_ALEN);
    space.max_virtqueue_pairs = config->queue_pairs;
    space.mtu = config->mtu;
    while (queues < 2 * config->queue_pairs)
        queue_sizes[queues++] = config->queue_size;
    queue_sizes[queues++] = NET_CONTROL_SIZE;
    rc = virtio_create(&net->virtio, vm, place, &net_ops, features, &space, NET_CONFIG_SIZE,
                       queue_sizes, queues, err);
    if (rc < 0)
        goto fail;
    if (device != NULL)
        *device = &net->virtio.device;
    return 0;

fail:
    net_free(net);
    return rc;
}
