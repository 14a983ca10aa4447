/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a virtio device asks of its machine beyond the bus: guest RAM in two slots that touch
 * each other, doorbells, and vectors. Each piece of RAM is an allocation of its own, so that
 * a byte beyond it is seen.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "error.h"
#include "event.h"
#include "harness.h"
#include "irq.h"
#include "memory.h"
#include "seccomp_filter.h"

void fuzz_machine_begin(kvmshim_vm *vm)
{
    for (uint32_t i = 0; i < FUZZ_SLOTS; i++)
        vm->ram[i] = calloc(1, FUZZ_SLOT_SIZE);
    vm->next_gsi = IRQ_PINS;
}

void fuzz_machine_end(kvmshim_vm *vm)
{
    FUZZ_CHECK(vm->doorbells == 0 && vm->irqfds == 0);
    for (uint32_t i = 0; i < FUZZ_SLOTS; i++)
        free(vm->ram[i]);
}

/* ---- memory ------------------------------------------------------------------- */

void *memory_piece(kvmshim_vm *vm, uint64_t gpa, uint64_t size, uint64_t *length)
{
    uint64_t offset = gpa % FUZZ_SLOT_SIZE;

    FUZZ_CHECK(size != 0);
    *length = 0;
    if (gpa >= FUZZ_RAM_SIZE)
        return NULL;
    *length = size < FUZZ_SLOT_SIZE - offset ? size : FUZZ_SLOT_SIZE - offset;
    return vm->ram[gpa / FUZZ_SLOT_SIZE] + offset;
}

void *memory_range(kvmshim_vm *vm, uint64_t gpa, uint64_t size)
{
    uint64_t length;
    void *host = memory_piece(vm, gpa, size, &length);

    return length == size ? host : NULL;
}

void fuzz_poke(kvmshim_vm *vm, uint64_t gpa, const void *data, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++) {
        uint64_t at = (gpa + i) % FUZZ_RAM_SIZE;

        vm->ram[at / FUZZ_SLOT_SIZE][at % FUZZ_SLOT_SIZE] = ((const uint8_t *)data)[i];
    }
}

/* ---- doorbells and vectors ------------------------------------------------------ */

int kvmshim_ioeventfd_add(kvmshim_vm *vm, int space, uint64_t address, uint32_t size, int match,
                          uint64_t value, int eventfd, kvmshim_error *err)
{
    FUZZ_CHECK(space == KVMSHIM_SPACE_MMIO && address != 0 && !match && value == 0 &&
               eventfd >= 0 && (err == NULL || size <= 8));
    vm->doorbells++;
    return 0;
}

int kvmshim_ioeventfd_remove(kvmshim_vm *vm, int space, uint64_t address, uint32_t size,
                             int match, uint64_t value, int eventfd, kvmshim_error *err)
{
    FUZZ_CHECK(space == KVMSHIM_SPACE_MMIO && address != 0 && !match && value == 0 &&
               eventfd >= 0 && (err == NULL || size <= 8));
    FUZZ_CHECK(vm->doorbells-- > 0);
    return 0;
}

int irq_allocate(kvmshim_vm *vm, uint32_t count, uint32_t *first, kvmshim_error *err)
{
    if (count > IRQ_GSI_MAX + 1 - vm->next_gsi)
        return error_set(err, -ENOSPC, "GSIs");
    *first = vm->next_gsi;
    vm->next_gsi += count;
    return 0;
}

int kvmshim_irq_route_msi(kvmshim_vm *vm, uint32_t gsi, uint64_t address, uint32_t data,
                          kvmshim_error *err)
{
    FUZZ_CHECK(gsi >= IRQ_PINS && gsi < vm->next_gsi);
    /* KVM refuses some; which ones does not matter here. */
    return address >> 32 == 0xbad && data ? error_set(err, -EINVAL, "route") : 0;
}

/* As KVM does: what is written is gone at once, and at the latest when it gives it back. */
static void delivered(int fd)
{
    eventfd_t count;

    eventfd_read(fd, &count);
}

int kvmshim_irqfd_add(kvmshim_vm *vm, int eventfd, uint32_t gsi, kvmshim_error *err)
{
    FUZZ_CHECK(gsi >= IRQ_PINS && gsi < vm->next_gsi && (err == NULL || eventfd >= 0));
    vm->irqfds++;
    return 0;
}

int kvmshim_irqfd_remove(kvmshim_vm *vm, int eventfd, uint32_t gsi, kvmshim_error *err)
{
    FUZZ_CHECK(gsi >= IRQ_PINS && gsi < vm->next_gsi && (err == NULL || eventfd >= 0));
    delivered(eventfd);
    FUZZ_CHECK(vm->irqfds-- > 0);
    return 0;
}

/* ---- events ------------------------------------------------------------------- */

void event_post(kvmshim_vm *vm, kvmshim_event *event)
{
    FUZZ_CHECK(vm && event->source[0] && event->kind > KVMSHIM_EVENT_GUEST_PANIC &&
               event->kind <= KVMSHIM_EVENT_DEVICE_RESET);
    FUZZ_CHECK(memchr(event->text, 0, sizeof(event->text)));
    FUZZ_CHECK(event->kind != KVMSHIM_EVENT_DEVICE_LOG || event->text[0]);
}

/* ---- threads: the fuzzer's own calls are none of the rules' business -------------- */

const struct sock_fprog *seccomp_filter(const kvmshim_vm *vm, unsigned int kind)
{
    FUZZ_CHECK(vm && kind < KVMSHIM_THREAD_KINDS);
    return NULL;
}
