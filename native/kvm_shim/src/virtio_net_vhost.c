/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-net: the kernel moves the frames of a pair between its rings and its tap, woken by the
 * same eventfds as we would be and interrupting by the vectors' own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "error.h"
#include "virtio_net.h"
#include "vm.h"

enum { VHOST_RX = 0, VHOST_TX = 1, VHOST_RINGS = 2 };

/* What of the negotiated features is the kernel's business: it moves the frames, with the
 * header that tap and guest agreed on. */
#define VHOST_REQUIRED                                                                            \
    (UINT64_C(1) << VIRTIO_F_VERSION_1 | UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC |             \
     UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define VHOST_FEATURES (VHOST_REQUIRED | NET_BIT(MRG_RXBUF))

static int vhost_ioctl(const struct net_pair *pair, unsigned long request, const char *name,
                       const void *argument, kvmshim_error *err)
{
    int rc;

    do
        rc = ioctl(pair->vhost, request, argument);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? error_set(err, -errno, "vhost-net of queue pair %u: %s", pair->index, name)
                  : 0;
}

#define VHOST(pair, request, argument, err) vhost_ioctl(pair, request, #request, argument, err)

int net_vhost_init(struct net_pair *pair, int vhost, uint64_t *features, kvmshim_error *err)
{
    uint64_t known = 0;
    int rc;

    pair->vhost = fcntl(vhost, F_DUPFD_CLOEXEC, 0);
    if (pair->vhost < 0)
        return error_set(err, -errno, "duplicate vhost-net, fd %d", vhost);
    rc = VHOST(pair, VHOST_SET_OWNER, NULL, err);
    if (rc == 0)
        rc = VHOST(pair, VHOST_GET_FEATURES, &known, err);
    if (rc < 0)
        return rc;
    if ((known & VHOST_REQUIRED) != VHOST_REQUIRED)
        return error_set(err, -EOPNOTSUPP, "vhost-net has features 0x%llx, needs 0x%llx",
                         (unsigned long long)known, (unsigned long long)VHOST_REQUIRED);
    *features &= ~(VHOST_FEATURES & ~known);
    return 0;
}

static int set_memory(const struct net_pair *pair, kvmshim_error *err)
{
    const struct memory *memory = &pair->net->virtio.device.vm->memory;
    const uint32_t count = atomic_load_explicit(&memory->count, memory_order_acquire);
    struct vhost_memory *table = calloc(1, sizeof(*table) + count * sizeof(table->regions[0]));
    int rc;

    if (table == NULL)
        return error_set(err, -ENOMEM, "vhost-net: allocate the memory table");
    table->nregions = count;
    for (uint32_t i = 0; i < count; i++)
        table->regions[i] = (struct vhost_memory_region){
            .guest_phys_addr = memory->slots[i].gpa,
            .memory_size = memory->slots[i].size,
            .userspace_addr = (uintptr_t)memory->slots[i].host,
        };
    rc = VHOST(pair, VHOST_SET_MEM_TABLE, table, err);
    free(table);
    return rc;
}

static int set_ring(const struct net_pair *pair, unsigned int ring,
                    const struct virtqueue *queue, kvmshim_error *err)
{
    const struct vhost_vring_state size = {.index = ring, .num = queue->size};
    const struct vhost_vring_state base = {.index = ring, .num = queue->next_avail};
    const struct vhost_vring_addr address = {
        .index = ring,
        .desc_user_addr = (uintptr_t)queue->desc_ring,
        .avail_user_addr = (uintptr_t)queue->avail_ring,
        .used_user_addr = (uintptr_t)queue->used_ring,
    };
    const struct vhost_vring_file kick = {.index = ring, .fd = queue->kick_fd};
    const struct vhost_vring_file call = {.index = ring, .fd = queue->call_fd};
    const struct vhost_vring_file error = {.index = ring, .fd = pair->net->vhost_error};
    int rc = VHOST(pair, VHOST_SET_VRING_NUM, &size, err);

    if (rc == 0)
        rc = VHOST(pair, VHOST_SET_VRING_BASE, &base, err);
    if (rc == 0)
        rc = VHOST(pair, VHOST_SET_VRING_ADDR, &address, err);
    if (rc == 0)
        rc = VHOST(pair, VHOST_SET_VRING_KICK, &kick, err);
    if (rc == 0)
        rc = VHOST(pair, VHOST_SET_VRING_CALL, &call, err);
    if (rc == 0)
        rc = VHOST(pair, VHOST_SET_VRING_ERR, &error, err);
    return rc;
}

/* -1: none. When this returns the kernel is not in the ring any more. */
static int set_backend(const struct net_pair *pair, unsigned int ring, int tap,
                       kvmshim_error *err)
{
    const struct vhost_vring_file backend = {.index = ring, .fd = tap};

    return VHOST(pair, VHOST_NET_SET_BACKEND, &backend, err);
}

static struct virtqueue *queue_of(const struct net_pair *pair, unsigned int ring)
{
    return ring == VHOST_RX ? pair->rx.queue : pair->tx.queue;
}

int net_vhost_start(struct net_pair *pair, kvmshim_error *err)
{
    const uint64_t features = pair->net->virtio.features & VHOST_FEATURES;
    int rc = 0;

    if (!pair->rx.queue->enabled || !pair->tx.queue->enabled)
        return 0; /* the driver leaves the pair alone */
    rc = VHOST(pair, VHOST_SET_FEATURES, &features, err);
    if (rc == 0)
        rc = set_memory(pair, err);
    for (unsigned int ring = 0; rc == 0 && ring < VHOST_RINGS; ring++)
        rc = set_ring(pair, ring, queue_of(pair, ring), err);
    pair->vhost_runs = rc == 0;
    for (unsigned int ring = 0; rc == 0 && ring < VHOST_RINGS; ring++)
        rc = set_backend(pair, ring, pair->tap, err);
    if (rc < 0)
        net_vhost_stop(pair);
    return rc;
}

void net_vhost_stop(struct net_pair *pair)
{
    if (!pair->vhost_runs)
        return;
    pair->vhost_runs = false;
    /* None of these can fail: the rings are set up, and there is nothing to allocate. */
    for (unsigned int ring = 0; ring < VHOST_RINGS; ring++) {
        struct vhost_vring_state base = {.index = ring};
        struct virtqueue *queue = queue_of(pair, ring);

        set_backend(pair, ring, -1, NULL);
        VHOST(pair, VHOST_GET_VRING_BASE, &base, NULL);
        queue->next_avail = (uint16_t)base.num;
        queue->next_used = __atomic_load_n(&queue->used_ring->idx, __ATOMIC_RELAXED);
    }
}
