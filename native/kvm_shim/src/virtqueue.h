/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A split virtqueue from the device's side (virtio 1.2, 2.7).
 *
 * One thread at a time works on a queue: the device's own while it runs, the caller of start
 * and stop otherwise. Everything in the rings is the guest's and may change at any moment, so
 * each value is read once and checked before it is used. What cannot be right breaks the
 * queue: virtio_fail() tells the guest, and until the device is reset the queue is empty for
 * its device. A device has no error path for that.
 */
#ifndef KVM_SHIM_VIRTQUEUE_H
#define KVM_SHIM_VIRTQUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "kvm_shim.h"

#define VIRTQUEUE_SIZE_MAX 1024u

struct virtio_device;

struct virtqueue {
    struct virtio_device *device;
    uint16_t index;
    int kick_fd; /* eventfd, non-blocking: the guest wants the queue looked at */
    int call_fd; /* eventfd of the vector that interrupts for it, -1: none. Of the transport;
                    changes only while the device is stopped (a vhost backend has it too) */

    /* What the driver set up, through the transport, before it said DRIVER_OK. */
    uint16_t size_max, size;
    bool enabled;
    uint64_t desc, avail, used; /* guest-physical */
    _Atomic uint16_t vector;

    /* The rings in host memory, from virtqueue_start() on. */
    const struct vring_desc *desc_ring;
    const struct vring_avail *avail_ring;
    struct vring_used *used_ring;

    uint16_t next_avail;    /* free-running: the next entry of the available ring */
    uint16_t seen_avail;    /* the index of the available ring when it was read last */
    uint16_t next_used;     /* free-running: published entries of the used ring */
    uint16_t staged;        /* pushed and not yet published */
    uint16_t told_used;     /* next_used when an interrupt was last thought about */
    bool told;              /* ... if it was since the start */
    bool kicks_wanted;      /* the guest was told to kick */
    bool event_idx, indirect; /* negotiated */
    _Atomic bool broken;
    uint16_t popped[VIRTQUEUE_SIZE_MAX];         /* the head of each entry taken */
    uint64_t in_flight[VIRTQUEUE_SIZE_MAX / 64]; /* a bit for each head */

    _Atomic uint64_t kicks, chains, interrupts;
};

/* One request. `iov` and `capacity` are the caller's; readable segments come first. */
struct virtqueue_chain {
    struct iovec *iov;
    uint32_t capacity;

    uint16_t head;
    uint32_t readable, writable; /* segments */
    uint64_t readable_bytes, writable_bytes;
};

/* The transport's part: a queue as new, its eventfd; and as the driver's reset leaves it. */
int virtqueue_init(struct virtqueue *queue, struct virtio_device *device, uint16_t index,
                   uint16_t size_max, kvmshim_error *err);
void virtqueue_free(struct virtqueue *queue);
void virtqueue_reset(struct virtqueue *queue);
/* Check and map what the driver set up. -EINVAL with a context when it cannot be right. */
int virtqueue_start(struct virtqueue *queue, kvmshim_error *err);
/* From here on the queue is empty for its device; so is one that the driver did not enable. */
void virtqueue_stop(struct virtqueue *queue);

/*
 * Take the next chain. False when there is none (or the queue is broken). A chain of more
 * segments than `capacity`, of no segment, that loops, that leaves RAM, that has readable
 * segments after writable ones or whose head is still in flight breaks the queue. So at most
 * `size` chains are in flight, each with a head of its own. A buffer that crosses from one
 * memory slot to the next is one segment for each.
 */
bool virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain);

/* Put the `count` chains popped last, none of them pushed, back: they are popped again. */
void virtqueue_unpop(struct virtqueue *queue, uint16_t count);

/* Give a chain back with `written` bytes in its writable segments. The guest sees it, and is
 * interrupted if it wants to be, at virtqueue_publish(): once for a batch. */
void virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t written);
void virtqueue_publish(struct virtqueue *queue);

/* While it works through a queue a device may tell the guest not to kick. Enabling returns
 * true when a chain arrived meanwhile: look again, or it is missed. Enabled at start. */
void virtqueue_disable_kicks(struct virtqueue *queue);
bool virtqueue_enable_kicks(struct virtqueue *queue);

/* Clear kick_fd (and count the kick). The first thing a kick handler does. */
void virtqueue_kicked(struct virtqueue *queue);
/* Have kick_fd readable: the queue gets looked at by whoever watches it. */
void virtqueue_kick(struct virtqueue *queue);

/* Copy up to `size` bytes out of the readable / into the writable segments, from `offset` of
 * them on. Returns how many. */
uint64_t virtqueue_read(const struct virtqueue_chain *chain, uint64_t offset, void *data,
                        uint64_t size);
uint64_t virtqueue_write(const struct virtqueue_chain *chain, uint64_t offset, const void *data,
                         uint64_t size);

#endif
