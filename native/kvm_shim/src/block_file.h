/* SPDX-License-Identifier: Apache-2.0 */
/* What a disk's file is like: a raw image or a block device. */
#ifndef KVM_SHIM_BLOCK_FILE_H
#define KVM_SHIM_BLOCK_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm_shim.h"

#define BLOCK_SECTOR 512u /* virtio's unit, whatever the disk's is */

struct block_file {
    int fd;
    uint64_t size;       /* bytes, a multiple of block_size */
    uint32_t remainder;  /* bytes of the file after that */
    uint32_t block_size; /* the unit of the guest, and of direct I/O */
    uint32_t physical_size, optimal_size; /* bytes; the second may be 0: not known */
    bool direct; /* offsets, lengths and addresses are multiples of block_size */
    bool punch;  /* parts can be deallocated */
};

/* Duplicate `fd` and look at it. */
int block_file_open(struct block_file *file, int fd, bool readonly, kvmshim_error *err);
void block_file_close(struct block_file *file);

#endif
