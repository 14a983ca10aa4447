/* SPDX-License-Identifier: Apache-2.0 */
/* The port and MMIO buses: which device answers an address. */
#ifndef KVM_SHIM_BUS_H
#define KVM_SHIM_BUS_H

#include <stdint.h>

#include "kvm_shim.h"

/*
 * Called with offsets relative to the region's base; size is 1, 2, 4 or 8 and
 * offset + size <= the region's size. Any vCPU thread may call at any time, also while
 * another does: a device takes its own lock. `data` is little-endian bytes; a read starts
 * out as all ones.
 */
struct bus_ops {
    void (*read)(void *opaque, uint64_t offset, uint8_t *data, uint32_t size);
    void (*write)(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size);
};

/* -EEXIST when it overlaps a region of the same space. Safe while vCPUs run. */
int bus_add(kvmshim_vm *vm, int space, uint64_t base, uint64_t size, const struct bus_ops *ops,
            void *opaque, kvmshim_error *err);

/* When it returns no thread is in the region's ops any more, nor will be. From a vCPU
 * thread (a BAR moved by the guest) the wait covers the other vCPUs only. It may wait for
 * the region's ops: the caller holds no lock that they take. */
int bus_remove(kvmshim_vm *vm, int space, uint64_t base, kvmshim_error *err);

#endif
