/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices under the fuzzer. A target makes its VM with fuzz_virtio_begin(), creates its
 * device at fuzz_place(), brings it up with fuzz_virtio_ready() (or leaves that to the input),
 * plays the input with fuzz_virtio_play() and ends with fuzz_end(), which destroys the device.
 *
 * The queues that fuzz_virtio_ready() sets up have FUZZ_QUEUE_SIZE entries and lie in RAM at
 * FUZZ_QUEUE(n): the descriptors, the available ring at + 0x100, the used ring at + 0x200.
 * From FUZZ_BUFFERS on, RAM is for buffers.
 */
#ifndef KVM_SHIM_FUZZ_VIRTIO_H
#define KVM_SHIM_FUZZ_VIRTIO_H

#include "harness.h"
#include "virtio_device.h"

enum {
    /* 8 bytes of data into RAM at offset. */
    ACTION_RAM = 0xe3,
    /*
     * A chain for queue number `region`, and a notification. Two bytes of data for each of
     * its up to four buffers: where (FUZZ_BUFFERS + 256 * byte), then the length in its low
     * seven bits, shifted left by offset % 16, and in bit 7 whether the device writes. A
     * length of 0 ends the chain.
     */
    ACTION_CHAIN = 0xe4,
    ACTION_KICK = 0xe5, /* notify queue number `region` */
    ACTION_RUN = 0xe6,  /* let the device's threads do what there is to do */
};

enum { FUZZ_QUEUE_SIZE = 16, FUZZ_QUEUES = 16, FUZZ_BUFFERS = 0x8000 };
#define FUZZ_QUEUE(number) ((uint64_t)(number)*0x400)

/* An empty VM with RAM and a PCI bus. */
void fuzz_virtio_begin(kvmshim_vm *vm);
/* A place on that bus; the slot is 1 to 31. */
kvmshim_place fuzz_place(kvmshim_vm *vm, uint8_t slot);
/* All vectors unmasked, every feature in `features` that is offered, all queues up to
 * FUZZ_QUEUES, DRIVER_OK. */
void fuzz_virtio_ready(kvmshim_vm *vm, kvmshim_device *device, uint64_t features);

/* fuzz_play() with the actions above, on `device`. */
void fuzz_virtio_play(kvmshim_vm *vm, kvmshim_device *device, const uint8_t *input, size_t size,
                      void (*target)(void *opaque, const struct fuzz_record *record),
                      void *opaque);

#endif
