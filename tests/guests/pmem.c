/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A persistent memory driver. It prints where the device says the memory is and what stands at
 * its start, writes "written" there and its round to the last word of each 2 MiB, and flushes;
 * "rounds=N" times, or for ever. Then it asks for what there is not, and powers off.
 */
#include "runtime/cmdline.h"
#include "runtime/uart.h"
#include "runtime/virtio.h"

enum { UNIT = 0x200000, FLUSH = 0, UNKNOWN = 77 };

static struct virtio pmem;
static struct queue requests;
static uint32_t request, answer;

void guest_main(const struct start_info *info);

/* The page tables of the runtime end at 4 GiB: map the GiB that `address` is in as well. */
static void map_gib(uint64_t address)
{
    static uint64_t directory[512] __attribute__((aligned(4096)));
    uint64_t base = address >> 30 << 30;
    uint64_t *pml4, *pdpt;

    __asm__ volatile("movq %%cr3, %0" : "=r"(pml4));
    pdpt = (uint64_t *)(uintptr_t)(pml4[0] & ~UINT64_C(0xfff));
    for (uint32_t i = 0; i < 512; i++)
        directory[i] = (base + (uint64_t)i * UNIT) | 0xe3;
    pdpt[address >> 30] = (uintptr_t)directory | 0x23;
}

static uint32_t ask(uint32_t type)
{
    uint16_t head;

    request = type;
    answer = 0xffffffff;
    head = queue_buffer(&requests, &request, sizeof(request), DESC_NEXT);
    queue_buffer(&requests, &answer, sizeof(answer), DESC_WRITE);
    queue_add(&requests, head);
    queue_kick(&requests);
    queue_wait(&requests, NULL);
    return *(volatile uint32_t *)&answer;
}

void guest_main(const struct start_info *info)
{
    uint32_t rounds = cmdline_number(info, "rounds=", 0);
    uint64_t start, size;

    interrupts_init();
    virtio_find(&pmem, VIRTIO_PMEM, 0);
    virtio_negotiate(&pmem, 0);
    virtio_queue(&pmem, &requests, 0, NO_VECTOR);
    virtio_driver_ok(&pmem);
    start = *mmio64(pmem.device);
    size = *mmio64(pmem.device + 8);
    if (start >> 32 != 0)
        map_gib(start);
    put_hex(start, 16);
    put_char(' ');
    put_hex(size, 16);
    put_char(' ');
    put_hex(*mmio64(start), 16);
    put_char('\n');
    *mmio64(start) = 0x006e657474697277; /* "written" */
    for (uint32_t round = 1; rounds == 0 || round <= rounds; round++) {
        for (uint64_t at = UNIT; at <= size; at += UNIT)
            *mmio64(start + at - 8) = round;
        if (ask(FLUSH) != 0)
            put_text("not flushed\n");
        *mmio64(COUNTERS) = round;
    }
    put_text("unknown request: ");
    put_number(ask(UNKNOWN));
    put_char('\n');
    power_off();
}
