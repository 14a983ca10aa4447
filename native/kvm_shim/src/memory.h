/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: which host memory answers a guest-physical range. */
#ifndef KVM_SHIM_MEMORY_H
#define KVM_SHIM_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvm_shim.h"

#define MEMORY_SLOTS_MAX 64

struct memory_slot {
    uint64_t gpa;
    uint64_t size;
    uint8_t *host;
    int fd;         /* the memfd of RAM; -1: private memory, or a file's */
    uint64_t grain; /* bytes of a host page, the least that memory_discard() gives back; 0: a
                       file's, of which nothing is */
};

/*
 * Slots are only ever appended, and the count is published after the slot it covers: a
 * device thread may translate addresses while the control thread adds memory, without a
 * lock. A handful of slots makes a search unnecessary.
 */
struct memory {
    _Atomic uint32_t count;
    struct memory_slot slots[MEMORY_SLOTS_MAX];
};

/*
 * The host address of guest-physical [gpa, gpa + size), or NULL when any byte of it is not
 * RAM or the range crosses two slots (whose host memory is not adjacent). `size` > 0.
 */
void *memory_range(kvmshim_vm *vm, uint64_t gpa, uint64_t size);

/* The longest run of host memory from `gpa` on, of `size` > 0 bytes at most, its length in
 * *length; NULL where there is no RAM. For ranges that may cross slots. */
void *memory_piece(kvmshim_vm *vm, uint64_t gpa, uint64_t size, uint64_t *length);

/* Map `size` bytes of a file at `gpa` as memory of the guest, for good; with `copy_on_write`
 * its writes stay out of the file. */
int memory_map_file(kvmshim_vm *vm, uint64_t gpa, uint64_t size, int fd, bool copy_on_write,
                    kvmshim_error *err);

/*
 * Give guest RAM at [host, host + size), a range of one slot, back to the host: it reads as
 * zeroes then. *discarded is how many bytes that was: whole host pages only, and nothing of a
 * file. Any thread.
 */
int memory_discard(kvmshim_vm *vm, void *host, uint64_t size, uint64_t *discarded,
                   kvmshim_error *err);

void memory_free(struct memory *memory);

#endif
