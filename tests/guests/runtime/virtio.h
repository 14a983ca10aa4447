/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver of virtio devices over PCI (virtio 1.2, 3.1 and 4.1): find one on bus 0, negotiate,
 * set up queues in static memory, add chains, notify, and wait for them to be used.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include <stdbool.h>
#include <stddef.h>

#include "interrupts.h"

enum {
    VIRTIO_NET = 1,
    VIRTIO_BLOCK = 2,
    VIRTIO_CONSOLE = 3,
    VIRTIO_RNG = 4,
    VIRTIO_BALLOON = 5,
    VIRTIO_VSOCK = 19,
    VIRTIO_PMEM = 27,
    VIRTIO_WATCHDOG = 35,

    PCI_ECAM = 0xe8000000,
    PCI_COMMAND = 0x04,
    PCI_COMMAND_MEMORY = 0x02,
    PCI_COMMAND_MASTER = 0x04,
    PCI_BAR0 = 0x10,
    PCI_CAPABILITIES = 0x34,
    PCI_CAP_VENDOR = 0x09,
    PCI_CAP_MSIX = 0x11,
    VIRTIO_VENDOR = 0x1af4,
    VIRTIO_DEVICE = 0x1040,

    /* virtio_pci_cap */
    CAP_COMMON = 1,
    CAP_NOTIFY = 2,
    CAP_ISR = 3,
    CAP_DEVICE = 4,

    /* virtio_pci_common_cfg */
    COMMON_DEVICE_SELECT = 0x00,
    COMMON_DEVICE_FEATURES = 0x04,
    COMMON_DRIVER_SELECT = 0x08,
    COMMON_DRIVER_FEATURES = 0x0c,
    COMMON_CONFIG_VECTOR = 0x10,
    COMMON_QUEUES = 0x12,
    COMMON_STATUS = 0x14,
    COMMON_GENERATION = 0x15,
    COMMON_QUEUE_SELECT = 0x16,
    COMMON_QUEUE_SIZE = 0x18,
    COMMON_QUEUE_VECTOR = 0x1a,
    COMMON_QUEUE_ENABLE = 0x1c,
    COMMON_QUEUE_NOTIFY = 0x1e,
    COMMON_QUEUE_DESC = 0x20,
    COMMON_QUEUE_AVAIL = 0x28,
    COMMON_QUEUE_USED = 0x30,

    STATUS_ACKNOWLEDGE = 1,
    STATUS_DRIVER = 2,
    STATUS_DRIVER_OK = 4,
    STATUS_FEATURES_OK = 8,
    STATUS_NEEDS_RESET = 64,

    NO_VECTOR = 0xffff,
    DESC_NEXT = 1,
    DESC_WRITE = 2,
    DESC_INDIRECT = 4,
    RING_NO_INTERRUPT = 1,

    QUEUE_SIZE = 64, /* of every queue here, or less where the device has less */
};

#define FEATURE_INDIRECT (UINT64_C(1) << 28)
#define FEATURE_EVENT_IDX (UINT64_C(1) << 29)
#define FEATURE_VERSION_1 (UINT64_C(1) << 32)

struct virtio {
    uintptr_t config, bar, common, notify, isr, device, msix;
    uint32_t notify_multiplier;
    uint64_t features;
};

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

struct queue {
    struct descriptor desc[QUEUE_SIZE] __attribute__((aligned(16)));
    struct {
        volatile uint16_t flags, idx, ring[QUEUE_SIZE + 1];
    } avail __attribute__((aligned(4)));
    struct {
        volatile uint16_t flags, idx;
        volatile struct {
            uint32_t id, length;
        } ring[QUEUE_SIZE];
        volatile uint16_t event;
    } used __attribute__((aligned(4)));
    uint16_t size, next_desc, next_used;
    uintptr_t doorbell;
};

/* A full barrier: stores before it are seen before what comes after is loaded. */
static inline void memory_barrier(void)
{
    __asm__ volatile("lock; addl $0, (%%rsp)" : : : "memory");
}

/* ---- finding ------------------------------------------------------------------ */

static inline uintptr_t pci_config(uint32_t slot)
{
    return PCI_ECAM + ((uintptr_t)slot << 15);
}

static inline void virtio_capability(struct virtio *device, uintptr_t cap)
{
    uintptr_t at = device->bar + *mmio32(cap + 8);

    switch (*mmio8(cap + 3)) {
    case CAP_COMMON:
        device->common = at;
        break;
    case CAP_NOTIFY:
        device->notify = at;
        device->notify_multiplier = *mmio32(cap + 16);
        break;
    case CAP_ISR:
        device->isr = at;
        break;
    case CAP_DEVICE:
        device->device = at;
        break;
    default:
        break;
    }
}

/* The device in `slot`, with its BAR where it is, decoding. */
static inline void virtio_open(struct virtio *device, uint32_t slot)
{
    uintptr_t config = pci_config(slot);

    *device = (struct virtio){.config = config};
    device->bar = *mmio32(config + PCI_BAR0) & ~UINT32_C(15);
    *mmio16(config + PCI_COMMAND) = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    for (uintptr_t cap = *mmio8(config + PCI_CAPABILITIES); cap != 0;
         cap = *mmio8(config + cap + 1)) {
        if (*mmio8(config + cap) == PCI_CAP_VENDOR)
            virtio_capability(device, config + cap);
        else if (*mmio8(config + cap) == PCI_CAP_MSIX)
            device->msix = config + cap;
    }
}

/* The `number`th device of a type (from 0) on bus 0. */
static inline bool virtio_find(struct virtio *device, uint32_t type, uint32_t number)
{
    for (uint32_t slot = 1; slot < 32; slot++) {
        if (*mmio32(pci_config(slot)) == (VIRTIO_VENDOR | (VIRTIO_DEVICE + type) << 16) &&
            number-- == 0) {
            virtio_open(device, slot);
            return true;
        }
    }
    return false;
}

/* ---- negotiation ----------------------------------------------------------------- */

static inline uint8_t virtio_status(const struct virtio *device)
{
    return *mmio8(device->common + COMMON_STATUS);
}

static inline void virtio_add_status(const struct virtio *device, uint8_t bits)
{
    *mmio8(device->common + COMMON_STATUS) = virtio_status(device) | bits;
}

static inline void virtio_reset(const struct virtio *device)
{
    *mmio8(device->common + COMMON_STATUS) = 0;
    while (virtio_status(device) != 0)
        spin_hint();
}

/* Reset, and take those of `wanted` that are offered; VERSION_1 always. */
static inline bool virtio_negotiate(struct virtio *device, uint64_t wanted)
{
    uint64_t offered;

    virtio_reset(device);
    virtio_add_status(device, STATUS_ACKNOWLEDGE);
    virtio_add_status(device, STATUS_DRIVER);
    *mmio32(device->common + COMMON_DEVICE_SELECT) = 0;
    offered = *mmio32(device->common + COMMON_DEVICE_FEATURES);
    *mmio32(device->common + COMMON_DEVICE_SELECT) = 1;
    offered |= (uint64_t)*mmio32(device->common + COMMON_DEVICE_FEATURES) << 32;
    device->features = offered & (wanted | FEATURE_VERSION_1);
    *mmio32(device->common + COMMON_DRIVER_SELECT) = 0;
    *mmio32(device->common + COMMON_DRIVER_FEATURES) = (uint32_t)device->features;
    *mmio32(device->common + COMMON_DRIVER_SELECT) = 1;
    *mmio32(device->common + COMMON_DRIVER_FEATURES) = (uint32_t)(device->features >> 32);
    virtio_add_status(device, STATUS_FEATURES_OK);
    return virtio_status(device) & STATUS_FEATURES_OK;
}

static inline void virtio_driver_ok(const struct virtio *device)
{
    virtio_add_status(device, STATUS_DRIVER_OK);
}

/* ---- interrupts ------------------------------------------------------------------ */

/* Have MSI-X vector `entry` raise interrupt `vector` on the CPU with APIC id 0. */
static inline void virtio_msix_entry(const struct virtio *device, uint32_t entry, uint8_t vector)
{
    uintptr_t at = device->bar + *mmio32(device->msix + 4) + 16 * (uintptr_t)entry;

    *mmio32(at) = 0xfee00000;
    *mmio32(at + 4) = 0;
    *mmio32(at + 8) = vector;
    *mmio32(at + 12) = 0;
}

static inline void virtio_msix_mask(const struct virtio *device, uint32_t entry, bool masked)
{
    *mmio32(device->bar + *mmio32(device->msix + 4) + 16 * (uintptr_t)entry + 12) = masked;
}

static inline bool virtio_msix_pending(const struct virtio *device, uint32_t entry)
{
    return *mmio32(device->bar + *mmio32(device->msix + 8) + entry / 32 * 4) >> entry % 32 & 1;
}

static inline void virtio_msix_enable(const struct virtio *device)
{
    *mmio16(device->msix + 2) = 0x8000;
}

/* ---- queues ---------------------------------------------------------------------- */

static inline void virtio_write64(uintptr_t address, uint64_t value)
{
    *mmio32(address) = (uint32_t)value;
    *mmio32(address + 4) = (uint32_t)(value >> 32);
}

/* Set up queue `index`, between negotiation and virtio_driver_ok(). */
static inline void virtio_queue(const struct virtio *device, struct queue *queue, uint16_t index,
                                uint16_t vector)
{
    uint16_t size;

    for (size_t i = 0; i < sizeof(*queue) / 8; i++)
        ((volatile uint64_t *)queue)[i] = 0;
    *mmio16(device->common + COMMON_QUEUE_SELECT) = index;
    size = *mmio16(device->common + COMMON_QUEUE_SIZE);
    queue->size = size < QUEUE_SIZE ? size : QUEUE_SIZE;
    *mmio16(device->common + COMMON_QUEUE_SIZE) = queue->size;
    *mmio16(device->common + COMMON_QUEUE_VECTOR) = vector;
    virtio_write64(device->common + COMMON_QUEUE_DESC, (uintptr_t)queue->desc);
    virtio_write64(device->common + COMMON_QUEUE_AVAIL, (uintptr_t)&queue->avail);
    virtio_write64(device->common + COMMON_QUEUE_USED, (uintptr_t)&queue->used);
    queue->doorbell = device->notify + device->notify_multiplier *
                                           (uintptr_t)*mmio16(device->common + COMMON_QUEUE_NOTIFY);
    *mmio16(device->common + COMMON_QUEUE_ENABLE) = 1;
}

/* Fill the next descriptor and return its number. The caller keeps count: a descriptor is
 * taken again after `size` others. */
static inline uint16_t queue_buffer(struct queue *queue, const volatile void *data,
                                    uint32_t length, uint16_t flags)
{
    uint16_t at = queue->next_desc++ & (uint16_t)(queue->size - 1);

    queue->desc[at] = (struct descriptor){
        .address = (uintptr_t)data,
        .length = length,
        .flags = flags,
        .next = queue->next_desc & (uint16_t)(queue->size - 1),
    };
    return at;
}

/* Make the chain that starts with descriptor `head` available. */
static inline void queue_add(struct queue *queue, uint16_t head)
{
    queue->avail.ring[queue->avail.idx & (queue->size - 1)] = head;
    __asm__ volatile("" : : : "memory"); /* stores are seen in their order */
    queue->avail.idx++;
}

/* Notify the device, unless it said that it looks anyway (without EVENT_IDX). */
static inline void queue_kick(const struct queue *queue)
{
    memory_barrier();
    if ((queue->used.flags & 1) == 0)
        *mmio16(queue->doorbell) = 0;
}

/* Has the device used a chain that was not taken yet? */
static inline bool queue_ready(const struct queue *queue)
{
    return queue->used.idx != queue->next_used;
}

/* Wait for a chain to be used; its head, and in *written how many bytes it holds. */
static inline uint16_t queue_wait(struct queue *queue, uint32_t *written)
{
    uint16_t at;

    while (!queue_ready(queue))
        spin_hint();
    at = queue->next_used++ & (uint16_t)(queue->size - 1);
    if (written)
        *written = queue->used.ring[at].length;
    return (uint16_t)queue->used.ring[at].id;
}

#endif
