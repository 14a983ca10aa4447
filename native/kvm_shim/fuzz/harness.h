/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine for one device model: what src/bus.h, src/device.h and src/error.h ask for,
 * without KVM, and a decoder that turns a fuzzer's bytes into bus accesses, saved states
 * (honest and forged) and passing time.
 *
 * An input is a sequence of records of 14 bytes, little-endian:
 *     action u8, region u8, offset u32, data u64
 * An action below ACTION_ROUND_TRIP is an access: bits 0-1 the size's logarithm, bit 2 set
 * for a write. Those after ACTION_TIME are the target's own; virtio.h has some for all targets
 * of its kind.
 */
#ifndef KVM_SHIM_FUZZ_HARNESS_H
#define KVM_SHIM_FUZZ_HARNESS_H

#include <stddef.h>
#include <stdint.h>

#include "bus.h"
#include "device.h"

enum {
    ACTION_ROUND_TRIP = 0xe0, /* save, load what was saved, save: nothing changed */
    ACTION_FORGE = 0xe1,      /* load with data XORed over the state at offset */
    ACTION_TIME = 0xe2,       /* data nanoseconds pass */
    ACTION_TARGET = 0xf0,
};

enum { FUZZ_REGIONS = 16, FUZZ_SLOTS = 2, FUZZ_SLOT_SIZE = 0x10000 };
#define FUZZ_RAM_SIZE ((uint64_t)FUZZ_SLOTS * FUZZ_SLOT_SIZE) /* from 0 on */

struct fuzz_record {
    uint8_t action, region;
    uint32_t offset;
    uint8_t data[8];
};

struct kvmshim_vm {
    struct fuzz_region {
        int space;
        uint64_t base, size;
        const struct bus_ops *ops;
        void *opaque;
    } regions[FUZZ_REGIONS];
    uint32_t region_count;
    kvmshim_device *devices;
    uint64_t now_ns;
    /* Of a machine with RAM and PCI. */
    uint8_t *ram[FUZZ_SLOTS];
    uint32_t next_gsi, doorbells, irqfds;
    kvmshim_device *pci;
    void (*quiet)(kvmshim_device *device); /* what is checked of a paused device */
};

/* From here on there is a clock, that of `vm`, and it runs only when an input says so. */
void fuzz_begin(kvmshim_vm *vm);

/* Play the input. `target` gets the actions from ACTION_TARGET up. The device named by
 * region % devices is quiet (paused) during a round trip. */
void fuzz_play(kvmshim_vm *vm, const uint8_t *input, size_t size,
               void (*target)(void *opaque, const struct fuzz_record *record), void *opaque);

/* Write as a vCPU does; to nothing, where there is nothing. */
void fuzz_bus_write(kvmshim_vm *vm, int space, uint64_t address, uint64_t value, uint32_t size);

/* ---- machine.c, threads.c ---------------------------------------------------- */

/* RAM, GSIs, doorbells; everything is given back by the end. */
void fuzz_machine_begin(kvmshim_vm *vm);
void fuzz_machine_end(kvmshim_vm *vm);
/* Into RAM, whatever the address. */
void fuzz_poke(kvmshim_vm *vm, uint64_t gpa, const void *data, uint64_t size);
/* Have the devices' threads do what there is to do. */
void fuzz_run(void);

/* Destroy the devices; whatever is left on the bus then is a bug. */
void fuzz_end(kvmshim_vm *vm);

/* The property does not hold: stop here. */
#define FUZZ_CHECK(property)                                                                      \
    do {                                                                                          \
        if (!(property))                                                                          \
            __builtin_trap();                                                                     \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
