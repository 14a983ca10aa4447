/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes to the first disk and reads back what it wrote, several requests at a time, rounds=N
 * times, and counts in COUNTERS. With "event" it takes EVENT_IDX, with "trim" it gives its
 * first sectors back and zeroes the next. A flush and the disk's serial number are the end.
 */
#include "runtime/cmdline.h"
#include "runtime/uart.h"
#include "runtime/virtio.h"

enum {
    VECTOR_DISK = 0x50,
    IN_FLIGHT = 8,
    WORDS = 64, /* of a request: a sector */
    SECTORS = 2048,
    TYPE_READ = 0,
    TYPE_WRITE = 1,
    TYPE_FLUSH = 4,
    TYPE_ID = 8,
    TYPE_DISCARD = 11,
    TYPE_WRITE_ZEROES = 13,
    TRIMMED = 8, /* sectors: a block of the file system */
    STATUS_NONE = 0xee,
};

#define FEATURE_FLUSH (UINT64_C(1) << 9)
#define FEATURE_TRIM (UINT64_C(1) << 13 | UINT64_C(1) << 14)

struct request {
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    volatile uint64_t data[WORDS];
    volatile uint8_t status;
};

static struct virtio disk;
static struct queue queue;
static struct request requests[IN_FLIGHT] __attribute__((aligned(512)));

void guest_main(const struct start_info *info);

INTERRUPT_HANDLER(disk_interrupt)
{
    (void)frame;
    end_of_interrupt();
}

static void fail(const char *what)
{
    put_text("wrong: ");
    put_text(what);
    put_char('\n');
    power_off();
}

static void submit(struct request *request, uint32_t type, uint64_t sector, uint32_t size)
{
    uint16_t head;

    request->header.type = type;
    request->header.sector = sector;
    request->status = STATUS_NONE;
    head = queue_buffer(&queue, &request->header, sizeof(request->header), DESC_NEXT);
    if (size > 0)
        queue_buffer(&queue, request->data, size,
                     type == TYPE_READ || type == TYPE_ID ? DESC_NEXT | DESC_WRITE : DESC_NEXT);
    queue_buffer(&queue, &request->status, 1, DESC_WRITE);
    queue_add(&queue, head);
}

/* Wait for all of them, asleep. */
static void wait(uint32_t count)
{
    queue_kick(&queue);
    for (uint32_t i = 0; i < count; i++) {
        if (disk.features & FEATURE_EVENT_IDX)
            queue.avail.ring[queue.size] = queue.next_used;
        memory_barrier();
        while (!queue_ready(&queue))
            wait_for_interrupt();
        queue_wait(&queue, NULL);
    }
    for (uint32_t i = 0; i < count; i++)
        if (requests[i].status != 0)
            fail("status");
}

static uint64_t word(uint64_t sector, uint64_t round, uint64_t i)
{
    return sector * UINT64_C(0x9e3779b97f4a7c15) + round * 1000003 + i;
}

static void play(uint64_t round)
{
    uint64_t first = round * IN_FLIGHT % SECTORS;

    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        for (uint32_t at = 0; at < WORDS; at++)
            requests[i].data[at] = word(first + i, round, at);
        submit(&requests[i], TYPE_WRITE, first + i, sizeof(requests[i].data));
    }
    wait(IN_FLIGHT);
    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        for (uint32_t at = 0; at < WORDS; at++)
            requests[i].data[at] = 0;
        submit(&requests[i], TYPE_READ, first + i, sizeof(requests[i].data));
    }
    wait(IN_FLIGHT);
    for (uint32_t i = 0; i < IN_FLIGHT; i++)
        for (uint32_t at = 0; at < WORDS; at++)
            if (requests[i].data[at] != word(first + i, round, at))
                fail("data");
}

/* One range in a request of its own: its first sector, and how many. */
static void trim(uint32_t type, uint64_t sector)
{
    requests[0].data[0] = sector;
    requests[0].data[1] = TRIMMED;
    submit(&requests[0], type, 0, 2 * sizeof(requests[0].data[0]));
    wait(1);
}

void guest_main(const struct start_info *info)
{
    uint32_t rounds = cmdline_number(info, "rounds=", 1);
    bool trims = cmdline_find(info, "trim") != NULL;
    uint64_t wanted = cmdline_find(info, "event") != NULL ? FEATURE_EVENT_IDX : 0;

    if (trims)
        wanted |= FEATURE_TRIM;

    interrupts_init();
    idt_set(VECTOR_DISK, disk_interrupt);
    if (!virtio_find(&disk, VIRTIO_BLOCK, 0) || !virtio_negotiate(&disk, wanted | FEATURE_FLUSH))
        fail("no disk");
    virtio_msix_entry(&disk, 1, VECTOR_DISK);
    virtio_msix_enable(&disk);
    virtio_queue(&disk, &queue, 0, 1);
    virtio_driver_ok(&disk);
    put_text("disk ready\n");
    for (uint32_t i = 0; i < rounds; i++) {
        play(i);
        *mmio64(COUNTERS) = i + 1;
    }
    if (trims) {
        trim(TYPE_DISCARD, 0);
        trim(TYPE_WRITE_ZEROES, TRIMMED);
    }
    submit(&requests[0], TYPE_FLUSH, 0, 0);
    wait(1);
    for (uint32_t i = 0; i < WORDS; i++)
        requests[0].data[i] = 0;
    submit(&requests[0], TYPE_ID, 0, 20);
    wait(1);
    put_text("serial ");
    put_text((const char *)(uintptr_t)requests[0].data);
    put_text("\ndisk done\n");
    power_off();
}
