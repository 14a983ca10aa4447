/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's driver: it follows the rules, so the device has to follow them as well. */
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "memory.h"
#include "races.h"

enum {
    RING_SIZE = 16,
    CHAINS = RING_SIZE / 2, /* of two descriptors at most */
    AREA = 0x20000,         /* of a queue, in RAM */
    RING_AVAIL = 0x200,
    RING_USED = 0x400,
    BUFFERS = 0x1000,
    BUFFER_SIZE = 0x2000,
    MSIX_TABLE = 0x8000,
};

struct ring {
    const struct race_queue *kind;
    struct virtqueue *queue;
    uint64_t gpa;
    uint16_t size; /* RING_SIZE, or what the device has at most */
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t added, taken;
    bool busy[CHAINS];
};

struct driver {
    struct vcpu *vcpu;
    struct virtio_device *device;
    const struct race_device *kind;
    uint64_t bar, requests;
    bool event_idx;
    struct ring rings[RACE_QUEUES];
};

static void set(struct driver *driver, uint32_t offset, uint64_t value, uint32_t size)
{
    machine_write(driver->vcpu, driver->bar + offset, value, size);
}

static void set64(struct driver *driver, uint32_t offset, uint64_t value)
{
    set(driver, offset, (uint32_t)value, 4);
    set(driver, offset + 4, value >> 32, 4);
}

static uint8_t status(struct driver *driver)
{
    return (uint8_t)machine_read(driver->vcpu, driver->bar + VIRTIO_PCI_COMMON_STATUS, 1);
}

/* The rings are shared memory: each access is an atomic one, here as in the device. */
static void ring_clear(struct ring *ring)
{
    uint16_t *words = (uint16_t *)ring->desc;

    for (uint32_t i = 0; i < BUFFERS / sizeof(*words); i++)
        __atomic_store_n(&words[i], 0, __ATOMIC_RELAXED);
    memset(ring->busy, 0, sizeof(ring->busy));
    ring->added = ring->taken = 0;
}

static void set_up_queue(struct driver *driver, uint16_t index)
{
    struct ring *ring = &driver->rings[index];

    ring_clear(ring);
    set(driver, VIRTIO_PCI_COMMON_Q_SELECT, index, 2);
    set(driver, VIRTIO_PCI_COMMON_Q_SIZE, ring->size, 2);
    set(driver, VIRTIO_PCI_COMMON_Q_MSIX, index + 1u, 2);
    set64(driver, VIRTIO_PCI_COMMON_Q_DESCLO, ring->gpa);
    set64(driver, VIRTIO_PCI_COMMON_Q_AVAILLO, ring->gpa + RING_AVAIL);
    set64(driver, VIRTIO_PCI_COMMON_Q_USEDLO, ring->gpa + RING_USED);
    set(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
}

static void begin(struct driver *driver, bool event_idx)
{
    uint64_t features = driver->device->offered;
    const uint8_t up = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                       VIRTIO_CONFIG_S_FEATURES_OK;

    driver->event_idx = event_idx;
    if (!event_idx)
        features &= ~(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX);
    set(driver, VIRTIO_PCI_COMMON_STATUS, 0, 1);
    REQUIRE(status(driver) == 0);
    set(driver, VIRTIO_PCI_COMMON_STATUS, up & ~VIRTIO_CONFIG_S_FEATURES_OK, 1);
    for (uint32_t i = 0; i < 2; i++) {
        set(driver, VIRTIO_PCI_COMMON_GFSELECT, i, 4);
        set(driver, VIRTIO_PCI_COMMON_GF, (uint32_t)(features >> 32 * i), 4);
    }
    set(driver, VIRTIO_PCI_COMMON_STATUS, up, 1);
    set(driver, VIRTIO_PCI_COMMON_MSIX, 0, 2);
    for (uint16_t i = 0; i < driver->kind->queue_count; i++)
        set_up_queue(driver, i);
    set(driver, VIRTIO_PCI_COMMON_STATUS, up | VIRTIO_CONFIG_S_DRIVER_OK, 1);
    REQUIRE(status(driver) == (up | VIRTIO_CONFIG_S_DRIVER_OK));
}

struct driver *driver_create(struct vcpu *vcpu, kvmshim_device *device,
                             const struct race_device *kind)
{
    struct driver *driver = calloc(1, sizeof(*driver));

    driver->vcpu = vcpu;
    driver->device = (struct virtio_device *)device;
    driver->kind = kind;
    driver->bar = driver->device->bar.base;
    for (uint16_t i = 0; i < kind->queue_count; i++) {
        struct ring *ring = &driver->rings[i];
        uint8_t *host;

        ring->kind = &kind->queues[i];
        ring->queue = &driver->device->queues[i];
        ring->size = ring->queue->size_max < RING_SIZE ? ring->queue->size_max : RING_SIZE;
        ring->gpa = (uint64_t)(i + 1) * AREA;
        host = memory_range(vcpu->vm, ring->gpa, AREA);
        ring->desc = (struct vring_desc *)host;
        ring->avail = (struct vring_avail *)(host + RING_AVAIL);
        ring->used = (struct vring_used *)(host + RING_USED);
        for (uint32_t at = 0; ring->kind->header && at < CHAINS; at++)
            memcpy(host + BUFFERS + at * BUFFER_SIZE, ring->kind->header,
                   ring->kind->header_size);
    }
    for (uint32_t i = 0; i < driver->device->msix.count; i++)
        set(driver, MSIX_TABLE + 16 * i + 12, 0, 4);
    begin(driver, false);
    return driver;
}

void driver_free(struct driver *driver)
{
    free(driver);
}

/* ---- chains ------------------------------------------------------------------------- */

static void put_desc(struct ring *ring, uint16_t at, uint64_t gpa, uint32_t length,
                     uint16_t flags)
{
    struct vring_desc *desc = &ring->desc[at];

    __atomic_store_n(&desc->addr, gpa, __ATOMIC_RELAXED);
    __atomic_store_n(&desc->len, length, __ATOMIC_RELAXED);
    __atomic_store_n(&desc->flags, flags, __ATOMIC_RELAXED);
    __atomic_store_n(&desc->next, (uint16_t)(at + 1), __ATOMIC_RELAXED);
}

static bool add(struct driver *driver, struct ring *ring)
{
    uint64_t buffer;
    uint16_t slot = 0;

    while (slot < ring->size / 2 && ring->busy[slot])
        slot++;
    if (slot == ring->size / 2)
        return false;
    ring->busy[slot] = true;
    buffer = ring->gpa + BUFFERS + (uint64_t)slot * BUFFER_SIZE;
    if (ring->kind->readable)
        put_desc(ring, (uint16_t)(2 * slot), buffer, ring->kind->readable,
                 ring->kind->writable ? VRING_DESC_F_NEXT : 0);
    if (ring->kind->writable)
        put_desc(ring, (uint16_t)(2 * slot + (ring->kind->readable != 0)),
                 buffer + BUFFER_SIZE / 2, ring->kind->writable, VRING_DESC_F_WRITE);
    __atomic_store_n(&ring->avail->ring[ring->added % ring->size], (uint16_t)(2 * slot),
                     __ATOMIC_RELAXED);
    ring->added++;
    driver->requests++;
    return true;
}

/* Show the device what was added since `before`, and ring unless it asked not to. */
static void show(const struct driver *driver, struct ring *ring, uint16_t before)
{
    bool wanted;

    __atomic_store_n(&ring->avail->idx, ring->added, __ATOMIC_RELEASE);
    atomic_thread_fence(memory_order_seq_cst);
    if (driver->event_idx)
        wanted = vring_need_event(
            __atomic_load_n((uint16_t *)&ring->used->ring[ring->size], __ATOMIC_RELAXED),
            ring->added, before);
    else
        wanted = !(__atomic_load_n(&ring->used->flags, __ATOMIC_RELAXED) &
                   VRING_USED_F_NO_NOTIFY);
    if (wanted)
        eventfd_write(ring->queue->kick_fd, 1); /* as KVM does for a doorbell */
}

static void take(struct ring *ring)
{
    uint16_t used = __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE);

    for (; ring->taken != used; ring->taken++) {
        uint32_t id = __atomic_load_n(&ring->used->ring[ring->taken % ring->size].id,
                                      __ATOMIC_RELAXED);

        REQUIRE(id % 2 == 0 && id / 2 < CHAINS && ring->busy[id / 2]);
        ring->busy[id / 2] = false;
    }
}

void driver_step(struct driver *driver, unsigned int *seed)
{
    struct ring *ring =
        &driver->rings[(unsigned int)rand_r(seed) % driver->kind->queue_count];
    uint16_t before = ring->added;

    for (uint16_t i = 0; i < driver->kind->queue_count; i++)
        take(&driver->rings[i]);
    REQUIRE(!(status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET));
    if (rand_r(seed) % 256 == 0) {
        begin(driver, rand_r(seed) % 2);
        return;
    }
    for (int count = rand_r(seed) % 4; count > 0 && add(driver, ring); count--)
        ;
    if (ring->added != before)
        show(driver, ring, before);
}

bool driver_is_done(struct driver *driver)
{
    bool done = true;

    for (uint16_t i = 0; i < driver->kind->queue_count; i++) {
        struct ring *ring = &driver->rings[i];

        take(ring);
        done = done && (!ring->kind->answered || ring->taken == ring->added);
    }
    return done;
}

uint64_t driver_requests(const struct driver *driver)
{
    return driver->requests;
}
