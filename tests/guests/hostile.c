/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that means harm, on two CPUs: the second fills the rings of every virtio device but
 * the first with whatever comes to its mind (descriptors, chains that loop, tables, indices)
 * and rings their doorbells; the first has these devices set up with rings that are good, are
 * elsewhere, are nowhere, moves their BARs about, over each other and over everything else,
 * and writes into all of their registers. And each goes on with the first device, an entropy
 * device, in between: COUNTERS says how often it served both. Runs until it is stopped.
 */
#include "runtime/cmdline.h"
#include "runtime/smp.h"
#include "runtime/uart.h"
#include "runtime/virtio.h"

enum {
    DEVICES = 8,
    QUEUES = 4,
    AREA = 0x210000, /* of the rings that are attacked: 64 KiB for each device */
    AREA_SIZE = 0x10000,
    RING_AVAIL = 0x400,
    RING_USED = 0x800,
    RING_SIZE = 0x1000, /* bytes */
    SETTLED = 0xc0000000,
};

static struct virtio rng, victims[DEVICES];
static uint32_t victim_count;
static struct queue good;
static volatile uint64_t random_bytes;
static volatile uint32_t seeds[2];
static volatile uint32_t attacks;

void guest_main(const struct start_info *info);

static uint32_t draw(uint32_t cpu)
{
    uint32_t x = seeds[cpu];

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    seeds[cpu] = x;
    return x;
}

/* Into a BAR. A message that a vector sends is an ordinary interrupt, which nobody takes: an
 * NMI or INIT would be the end of the attack. */
static void poke(uintptr_t bar, uint32_t offset, uint32_t value)
{
    *mmio32(bar + offset) = offset >= 0x8000 && offset < 0x48000 ? value & ~0x700u : value;
}

static uintptr_t ring_of(uint32_t victim, uint32_t queue)
{
    return AREA + (uintptr_t)victim * AREA_SIZE + (uintptr_t)queue * RING_SIZE;
}

/* ---- CPU 1: rings ------------------------------------------------------------------ */

/* An address that is a buffer, a ring, the edge of RAM, or no RAM at all. */
static uint64_t draw_address(uint32_t cpu)
{
    uint32_t value = draw(cpu);

    switch (value % 64) {
    case 0:
        return (uint64_t)draw(cpu) << 32 | value;
    case 1:
        return 0x400000 - value / 64 % 8192;
    case 2:
        return 0xc0000000 + (value & 0xfffff);
    default:
        return AREA + value / 64 % (DEVICES * AREA_SIZE);
    }
}

static void put_descriptor(uintptr_t desc, uint16_t flags, uint16_t next)
{
    uint32_t value = draw(1);

    *mmio64(desc) = draw_address(1);
    *mmio32(desc + 8) = value % 32 == 0 ? draw(1) : value % 4096;
    *mmio16(desc + 12) = value % 32 == 1 ? (uint16_t)(draw(1) & 7) : flags;
    *mmio16(desc + 14) = value % 32 == 2 ? (uint16_t)(draw(1) % 17) : next;
}

/* Mostly chains that may even be right, of two buffers, so that the attack gets further than
 * to the queue. */
static void scribble(uint32_t victim, uint32_t queue)
{
    uintptr_t ring = ring_of(victim, queue);
    uint32_t value = draw(1);
    uint16_t head = (uint16_t)(value % 15);

    switch (value >> 8 & 63) {
    case 0: /* a word of anything anywhere in it */
        *mmio32(ring + (draw(1) & 0xffc)) = draw(1);
        break;
    case 1: /* an index that runs away */
        *mmio16(ring + RING_AVAIL + 2) = (uint16_t)draw(1);
        break;
    default:
        *mmio32(AREA + draw(1) % (DEVICES * AREA_SIZE - 4) / 4 * 4) = draw(1) % 32;
        put_descriptor(ring + head * 16u, value & 0x10000 ? DESC_WRITE | DESC_NEXT : DESC_NEXT,
                       head + 1);
        put_descriptor(ring + head * 16u + 16, DESC_WRITE, 0);
        *mmio16(ring + RING_AVAIL + 4 + 2 * (*mmio16(ring + RING_AVAIL + 2) % 16u)) = head;
        (*mmio16(ring + RING_AVAIL + 2))++;
    }
}

void ap_main(uint32_t number)
{
    for (;;) {
        uint32_t victim = draw(1) % victim_count;
        uint32_t queue = draw(1) % QUEUES;
        uintptr_t bar = SETTLED + (draw(1) % 32) * 0x80000;

        scribble(victim, queue);
        *mmio16(victims[victim].notify + 4 * (uintptr_t)queue) = 0;
        if (draw(1) % 16 == 0) /* whoever it may be; but not the good one's registers */
            poke(bar == rng.bar ? victims[0].bar : bar, draw(1) & 0x7fffc, draw(1));
        *mmio64(COUNTERS + 64 * (uintptr_t)number) += 1;
    }
}

/* ---- CPU 0: registers ---------------------------------------------------------------- */

static void set_up(uint32_t number)
{
    struct virtio *victim = &victims[number];
    uint32_t wrong = draw(0);

    *mmio8(victim->common + COMMON_STATUS) = 0;
    *mmio8(victim->common + COMMON_STATUS) = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
    *mmio32(victim->common + COMMON_DRIVER_SELECT) = 1;
    *mmio32(victim->common + COMMON_DRIVER_FEATURES) = wrong % 16 == 0 ? draw(0) : 1;
    *mmio32(victim->common + COMMON_DRIVER_SELECT) = 0;
    *mmio32(victim->common + COMMON_DRIVER_FEATURES) = draw(0) % 2 * (3u << 28);
    *mmio8(victim->common + COMMON_STATUS) =
        STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
    for (uint16_t i = 0; i < QUEUES; i++) {
        uint64_t ring = wrong >> 8 & 15 ? ring_of(number, i) : draw_address(0);

        *mmio32(ring_of(number, i) + RING_AVAIL) = 0;
        *mmio32(ring_of(number, i) + RING_USED) = 0;
        *mmio16(victim->common + COMMON_QUEUE_SELECT) = i;
        *mmio16(victim->common + COMMON_QUEUE_SIZE) = 16;
        *mmio16(victim->common + COMMON_QUEUE_VECTOR) = (uint16_t)(draw(0) % 8);
        virtio_write64(victim->common + COMMON_QUEUE_DESC, ring);
        virtio_write64(victim->common + COMMON_QUEUE_AVAIL, ring + RING_AVAIL);
        virtio_write64(victim->common + COMMON_QUEUE_USED, ring + RING_USED);
        *mmio16(victim->common + COMMON_QUEUE_ENABLE) = 1;
    }
    *mmio8(victim->common + COMMON_STATUS) =
        STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;
}

/* The BAR somewhere: on RAM, on the local APIC, on the bus itself, on the good device; and
 * back, so that there is something to attack. */
static void move_bar(uint32_t number)
{
    static const uint32_t places[] = {0x00000000, 0xfee00000, 0xfec00000, 0xe8000000,
                                      0xe7000000, 0xfff80000, 0xc0800000, 0xd0000000};
    struct virtio *victim = &victims[number];
    uint32_t value = draw(0);
    uint32_t place = value & 8 ? (uint32_t)rng.bar : places[value % 8];

    *mmio32(victim->config + PCI_BAR0) = place;
    if (value & 16)
        *mmio32(victim->config + PCI_BAR0 + 4) = draw(0);
    if (value & 32)
        *mmio16(victim->config + PCI_COMMAND) = (uint16_t)draw(0);
    *mmio32(victim->config + (draw(0) & 0xfc)) = draw(0);
    *mmio32(victim->config + PCI_BAR0 + 4) = 0;
    *mmio32(victim->config + PCI_BAR0) = (uint32_t)victim->bar;
    *mmio16(victim->config + PCI_COMMAND) = PCI_COMMAND_MEMORY;
}

static void attack(void)
{
    uint32_t number = draw(0) % victim_count;
    struct virtio *victim = &victims[number];

    switch (draw(0) % 8) {
    case 0:
        move_bar(number);
        break;
    case 1:
        poke(victim->bar, draw(0) & 0x7fffc, draw(0));
        break;
    case 2:
        *mmio32(victim->device + (draw(0) & 0x3c)) = draw(0);
        break;
    case 3:
        *mmio16(victim->common + COMMON_CONFIG_VECTOR) = (uint16_t)(draw(0) % 4);
        *mmio16(victim->msix + 2) = (uint16_t)draw(0);
        break;
    case 4:
        *mmio8(victim->common + COMMON_STATUS) = (uint8_t)draw(0);
        break;
    default:
        set_up(number);
    }
    attacks++;
}

/* The good device serves a request, whatever happens around it. */
static void get_entropy(void)
{
    uint32_t written;

    queue_add(&good, queue_buffer(&good, &random_bytes, sizeof(random_bytes), DESC_WRITE));
    queue_kick(&good);
    queue_wait(&good, &written);
    if (written != sizeof(random_bytes) || (virtio_status(&rng) & STATUS_NEEDS_RESET)) {
        put_text("wrong\n");
        power_off();
    }
}

static void find_victims(void)
{
    for (uint32_t slot = 1; slot < 32 && victim_count < DEVICES; slot++) {
        uint32_t id = *mmio32(pci_config(slot));

        if ((id & 0xffff) == VIRTIO_VENDOR && pci_config(slot) != rng.config)
            virtio_open(&victims[victim_count++], slot);
    }
}

void guest_main(const struct start_info *info)
{
    seeds[0] = cmdline_number(info, "seed=", 1) * 2654435761u | 1;
    seeds[1] = draw(0) | 1;
    interrupts_init();
    virtio_find(&rng, VIRTIO_RNG, 0);
    virtio_negotiate(&rng, 0);
    virtio_queue(&rng, &good, 0, NO_VECTOR);
    virtio_driver_ok(&rng);
    find_victims();
    get_entropy();
    start_processors(cmdline_number(info, "cpus=", 1));
    put_text("hostile\n");
    for (;;) {
        attack();
        get_entropy();
        *mmio64(COUNTERS) += 1;
    }
}
