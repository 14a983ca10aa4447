/* SPDX-License-Identifier: Apache-2.0 */
/* The bus as the VM and the vCPU threads see it: its state, and the dispatch of an access. */
#ifndef KVM_SHIM_BUS_TABLE_H
#define KVM_SHIM_BUS_TABLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus.h"

#define BUS_SPACES 2

struct bus_region {
    const struct bus_ops *ops;
    void *opaque;
};

struct bus_range {
    uint64_t base, last; /* inclusive, so that a region may end at the top of the space */
    struct bus_region *region;
};

/* Sorted by base, without overlaps, and never changed once published. */
struct bus_table {
    uint32_t count;
    struct bus_range ranges[];
};

/* Where one thread is on the bus. Written by that thread alone, read by removers. */
struct bus_reader {
    _Atomic uint32_t looking;              /* it may hold a table */
    struct bus_region *_Atomic inside;     /* it is in, or about to call, this region's ops */
    _Atomic pthread_t thread;              /* 0 while no thread is behind it */
};

struct bus {
    pthread_mutex_t lock; /* of writers among themselves */
    struct bus_table *_Atomic tables[BUS_SPACES];
    pthread_mutex_t control_lock; /* of users of the reader below */
    struct bus_reader control;
};

int bus_init(struct bus *bus);
void bus_free(struct bus *bus);

/*
 * One access of 1 to 8 bytes; a read must start out as all ones. True when a device
 * claimed any byte of it. An access that no region holds whole is split as a chipset
 * would, down to bytes.
 */
bool bus_dispatch(struct bus *bus, struct bus_reader *reader, int space, uint64_t address,
                  bool is_write, uint8_t *data, uint32_t size);

#endif
