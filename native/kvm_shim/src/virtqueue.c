/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rings are shared with the guest's CPUs, so every access to them is an atomic one: what
 * is read is read once, and nothing is torn. The rings' byte order is little-endian, ours.
 */
#include "virtqueue.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "error.h"
#include "memory.h"
#include "virtio_device.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the rings are read as they are"
#endif

_Static_assert(sizeof(struct vring_desc) == 16 && sizeof(struct vring_used_elem) == 8, "2.7");

#define ring_read(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define ring_read_acquire(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
#define ring_write(field, value) __atomic_store_n(&(field), value, __ATOMIC_RELAXED)
#define ring_write_release(field, value) __atomic_store_n(&(field), value, __ATOMIC_RELEASE)

int virtqueue_init(struct virtqueue *queue, struct virtio_device *device, uint16_t index,
                   uint16_t size_max, kvmshim_error *err)
{
    if (size_max == 0 || size_max > VIRTQUEUE_SIZE_MAX || (size_max & (size_max - 1)) != 0)
        return error_set(err, -EINVAL, "queue %u of %u entries", index, size_max);
    queue->device = device;
    queue->index = index;
    queue->size_max = size_max;
    queue->call_fd = -1;
    queue->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->kick_fd < 0)
        return error_set(err, -errno, "eventfd of queue %u", index);
    virtqueue_reset(queue);
    return 0;
}

void virtqueue_free(struct virtqueue *queue)
{
    close(queue->kick_fd);
}

void virtqueue_reset(struct virtqueue *queue)
{
    eventfd_t kicks;

    virtqueue_stop(queue);
    queue->size = queue->size_max;
    queue->enabled = false;
    queue->desc = queue->avail = queue->used = 0;
    atomic_store(&queue->vector, MSIX_NO_VECTOR);
    queue->call_fd = -1;
    queue->next_avail = queue->next_used = 0;
    atomic_store(&queue->broken, false);
    eventfd_read(queue->kick_fd, &kicks);
}

/* A part of the queue, in host memory; each lies within one memory slot. */
static void *virtqueue_map(const struct virtqueue *queue, const char *part, uint64_t gpa,
                           uint64_t size, uint64_t alignment, kvmshim_error *err)
{
    void *host = NULL;

    if (gpa % alignment == 0)
        host = memory_range(queue->device->device.vm, gpa, size);
    if (!host)
        error_set(err, -EINVAL, "queue %u: %s ring at 0x%" PRIx64 " is not aligned or not in RAM",
                  queue->index, part, gpa);
    return host;
}

int virtqueue_start(struct virtqueue *queue, kvmshim_error *err)
{
    const uint64_t size = queue->size;

    queue->event_idx = virtio_has(queue->device, VIRTIO_RING_F_EVENT_IDX);
    queue->indirect = virtio_has(queue->device, VIRTIO_RING_F_INDIRECT_DESC);
    queue->seen_avail = queue->next_avail;
    queue->staged = 0;
    queue->told = false;
    memset(queue->in_flight, 0, sizeof(queue->in_flight));
    queue->desc_ring = virtqueue_map(queue, "descriptor", queue->desc,
                                     size * sizeof(struct vring_desc), VRING_DESC_ALIGN_SIZE, err);
    queue->avail_ring = virtqueue_map(queue, "available", queue->avail,
                                      (3 + size) * sizeof(uint16_t), VRING_AVAIL_ALIGN_SIZE, err);
    queue->used_ring =
        virtqueue_map(queue, "used", queue->used,
                      3 * sizeof(uint16_t) + size * sizeof(struct vring_used_elem),
                      VRING_USED_ALIGN_SIZE, err);
    if (!queue->desc_ring || !queue->avail_ring || !queue->used_ring) {
        virtqueue_stop(queue);
        return -EINVAL;
    }
    virtqueue_enable_kicks(queue);
    return 0;
}

void virtqueue_stop(struct virtqueue *queue)
{
    queue->desc_ring = NULL;
    queue->avail_ring = NULL;
    queue->used_ring = NULL;
}

/* Has the device anything to do with the guest's rings? */
static bool virtqueue_works(const struct virtqueue *queue)
{
    return queue->used_ring && !atomic_load_explicit(&queue->broken, memory_order_relaxed);
}

#define virtqueue_fail(queue, format, ...)                                                        \
    virtio_fail((queue)->device, "queue %u: " format, (queue)->index, ##__VA_ARGS__)

/* ---- the available ring ---------------------------------------------------- */

/* Is there an entry that was not taken yet? Acquire: what it points to is read after. */
static bool virtqueue_look(struct virtqueue *queue)
{
    queue->seen_avail = ring_read_acquire(queue->avail_ring->idx);
    return queue->seen_avail != queue->next_avail;
}

/* With EVENT_IDX: kick at the next entry. It comes without one if the guest was faster. */
static bool virtqueue_ask(struct virtqueue *queue)
{
    uint16_t *avail_event = (uint16_t *)&queue->used_ring->ring[queue->size];

    ring_write(*avail_event, queue->next_avail);
    /* The guest writes its index, then reads the event; we write the event, then read the
     * index. With a full barrier in between on both sides, one of the two sees the other's
     * (virtio 1.2, 2.7.13.4.1). */
    atomic_thread_fence(memory_order_seq_cst);
    return virtqueue_look(queue);
}

void virtqueue_disable_kicks(struct virtqueue *queue)
{
    if (!virtqueue_works(queue))
        return;
    queue->kicks_wanted = false;
    /* With EVENT_IDX an event that was passed is enough: it comes again after 65536 entries. */
    if (!queue->event_idx)
        ring_write(queue->used_ring->flags, VRING_USED_F_NO_NOTIFY);
}

bool virtqueue_enable_kicks(struct virtqueue *queue)
{
    if (!virtqueue_works(queue))
        return false;
    queue->kicks_wanted = true;
    if (queue->event_idx)
        return virtqueue_ask(queue);
    ring_write(queue->used_ring->flags, 0);
    atomic_thread_fence(memory_order_seq_cst); /* as above */
    return virtqueue_look(queue);
}

/* The head of the next chain. */
static bool virtqueue_take(struct virtqueue *queue, uint16_t *head)
{
    uint16_t slot = queue->next_avail & (uint16_t)(queue->size - 1);
    uint16_t waiting;

    if (queue->seen_avail == queue->next_avail && !virtqueue_look(queue) &&
        !(queue->kicks_wanted && queue->event_idx && virtqueue_ask(queue)))
        return false;
    waiting = (uint16_t)(queue->seen_avail - queue->next_avail);
    if (waiting > queue->size) {
        virtqueue_fail(queue, "%u entries available in a ring of %u", waiting, queue->size);
        return false;
    }
    *head = ring_read(queue->avail_ring->ring[slot]);
    if (*head >= queue->size) {
        virtqueue_fail(queue, "descriptor %u of %u is available", *head, queue->size);
        return false;
    }
    if (queue->in_flight[*head / 64] >> *head % 64 & 1) {
        virtqueue_fail(queue, "descriptor %u is available again before it was used", *head);
        return false;
    }
    queue->popped[slot] = *head;
    return true;
}

/* ---- chains ----------------------------------------------------------------- */

static bool chain_add(struct virtqueue *queue, struct virtqueue_chain *chain,
                      const struct vring_desc *desc)
{
    bool writable = desc->flags & VRING_DESC_F_WRITE;
    uint64_t gpa = desc->addr;

    if (!writable && chain->writable) {
        virtqueue_fail(queue, "a readable buffer follows a writable one");
        return false;
    }
    for (uint64_t left = desc->len, length; left; left -= length, gpa += length) {
        void *host = memory_piece(queue->device->device.vm, gpa, left, &length);

        if (!host) {
            virtqueue_fail(queue, "a buffer of %u bytes at 0x%" PRIx64 " is not in RAM",
                           desc->len, (uint64_t)desc->addr);
            return false;
        }
        if (chain->readable + chain->writable == chain->capacity) {
            virtqueue_fail(queue, "a chain of more than %u buffers", chain->capacity);
            return false;
        }
        chain->iov[chain->readable + chain->writable] =
            (struct iovec){.iov_base = host, .iov_len = length};
        if (writable) {
            chain->writable++;
            chain->writable_bytes += length;
        } else {
            chain->readable++;
            chain->readable_bytes += length;
        }
    }
    if (chain->readable_bytes + chain->writable_bytes > UINT32_MAX) {
        virtqueue_fail(queue, "a chain of more than 4 GiB");
        return false;
    }
    return true;
}

static struct vring_desc desc_read(const struct vring_desc *shared)
{
    return (struct vring_desc){
        .addr = ring_read(shared->addr),
        .len = ring_read(shared->len),
        .flags = ring_read(shared->flags),
        .next = ring_read(shared->next),
    };
}

/* The table that an indirect descriptor points to; NULL when it cannot be right. */
static const struct vring_desc *chain_indirect(struct virtqueue *queue,
                                               const struct vring_desc *desc, uint32_t *count)
{
    const struct vring_desc *table = NULL;

    *count = desc->len / (uint32_t)sizeof(*table);
    /* `next` reaches no further than 65536 entries. Nothing says that a table is aligned, only
     * that guests align it; what is read at once has to be. */
    if (queue->indirect && !(desc->flags & VRING_DESC_F_NEXT) && *count != 0 &&
        *count <= UINT16_MAX + 1 && desc->len % sizeof(*table) == 0 &&
        desc->addr % sizeof(uint64_t) == 0)
        table = memory_range(queue->device->device.vm, desc->addr, desc->len);
    if (!table)
        virtqueue_fail(queue, "an indirect table of %u bytes at 0x%" PRIx64 " makes no sense",
                       desc->len, (uint64_t)desc->addr);
    return table;
}

static bool chain_walk(struct virtqueue *queue, struct virtqueue_chain *chain)
{
    const struct vring_desc *table = queue->desc_ring;
    uint32_t count = queue->size;
    uint32_t next = chain->head;
    bool indirect = false; /* not to be told from `table`, which may be the ring itself */

    for (uint32_t steps = 0; steps < count; steps++) {
        struct vring_desc desc;

        if (next >= count) {
            virtqueue_fail(queue, "descriptor %u of %u is next", next, count);
            return false;
        }
        desc = desc_read(&table[next]);
        if (desc.flags & VRING_DESC_F_INDIRECT) {
            if (indirect) {
                virtqueue_fail(queue, "an indirect table in an indirect table");
                return false;
            }
            table = chain_indirect(queue, &desc, &count);
            if (!table)
                return false;
            indirect = true;
            next = 0;
            steps = UINT32_MAX; /* from 0 again */
            continue;
        }
        if (!chain_add(queue, chain, &desc))
            return false;
        if (!(desc.flags & VRING_DESC_F_NEXT)) {
            if (chain->readable + chain->writable)
                return true;
            virtqueue_fail(queue, "a chain without a buffer");
            return false;
        }
        next = desc.next;
    }
    virtqueue_fail(queue, "a chain that loops");
    return false;
}

bool virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain)
{
    chain->readable = chain->writable = 0;
    chain->readable_bytes = chain->writable_bytes = 0;
    if (!virtqueue_works(queue) || !virtqueue_take(queue, &chain->head) ||
        !chain_walk(queue, chain))
        return false;
    queue->in_flight[chain->head / 64] |= UINT64_C(1) << chain->head % 64;
    queue->next_avail++;
    return true;
}

void virtqueue_unpop(struct virtqueue *queue, uint16_t count)
{
    while (count--) {
        uint16_t head = queue->popped[--queue->next_avail & (uint16_t)(queue->size - 1)];

        queue->in_flight[head / 64] &= ~(UINT64_C(1) << head % 64);
    }
}

/* ---- the used ring ---------------------------------------------------------- */

void virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t written)
{
    struct vring_used_elem *used;

    if (!virtqueue_works(queue))
        return;
    used = &queue->used_ring->ring[(uint16_t)(queue->next_used + queue->staged) &
                                   (uint16_t)(queue->size - 1)];
    ring_write(used->id, head);
    ring_write(used->len, written);
    queue->staged++;
    queue->in_flight[head / 64] &= ~(UINT64_C(1) << head % 64);
}

/* Does the guest want to hear of the entries since the last time? */
static bool virtqueue_wanted(struct virtqueue *queue)
{
    uint16_t before = queue->told_used;
    bool told = queue->told;

    queue->told_used = queue->next_used;
    queue->told = true;
    /* Our index before its flags or event: the mirror image of virtqueue_ask(). */
    atomic_thread_fence(memory_order_seq_cst);
    if (!queue->event_idx)
        return !(ring_read(queue->avail_ring->flags) & VRING_AVAIL_F_NO_INTERRUPT);
    return !told || vring_need_event(ring_read(queue->avail_ring->ring[queue->size]),
                                     queue->next_used, before);
}

void virtqueue_publish(struct virtqueue *queue)
{
    if (queue->staged == 0 || !virtqueue_works(queue))
        return;
    queue->next_used = (uint16_t)(queue->next_used + queue->staged);
    atomic_fetch_add_explicit(&queue->chains, queue->staged, memory_order_relaxed);
    queue->staged = 0;
    /* Release: the entries and the buffers before the index. */
    ring_write_release(queue->used_ring->idx, queue->next_used);
    if (virtqueue_wanted(queue))
        virtio_interrupt(queue);
}

/* ---- kicks ------------------------------------------------------------------ */

void virtqueue_kicked(struct virtqueue *queue)
{
    eventfd_t kicks;

    if (eventfd_read(queue->kick_fd, &kicks) == 0)
        atomic_fetch_add_explicit(&queue->kicks, kicks, memory_order_relaxed);
}

void virtqueue_kick(struct virtqueue *queue)
{
    eventfd_write(queue->kick_fd, 1);
}

/* ---- copying ---------------------------------------------------------------- */

/* Copy between `data` and `count` segments, from `offset` of them on. */
static uint64_t segments_copy(const struct iovec *iov, uint32_t count, uint64_t offset, void *to,
                              const void *from, uint64_t size)
{
    uint64_t done = 0;

    for (uint32_t i = 0; i < count && done < size; i++) {
        uint64_t length = iov[i].iov_len;

        if (offset >= length) {
            offset -= length;
            continue;
        }
        length -= offset;
        if (length > size - done)
            length = size - done;
        if (to)
            memcpy((uint8_t *)to + done, (const uint8_t *)iov[i].iov_base + offset, length);
        else
            memcpy((uint8_t *)iov[i].iov_base + offset, (const uint8_t *)from + done, length);
        done += length;
        offset = 0;
    }
    return done;
}

uint64_t virtqueue_read(const struct virtqueue_chain *chain, uint64_t offset, void *data,
                        uint64_t size)
{
    return segments_copy(chain->iov, chain->readable, offset, data, NULL, size);
}

uint64_t virtqueue_write(const struct virtqueue_chain *chain, uint64_t offset, const void *data,
                         uint64_t size)
{
    return segments_copy(chain->iov + chain->readable, chain->writable, offset, NULL, data, size);
}
