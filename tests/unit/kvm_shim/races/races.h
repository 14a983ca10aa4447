/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device in a machine whose KVM does nothing, under everything that may happen at once: two
 * threads in the place of vCPUs (one drives the device, the other masks its vectors, reads its
 * registers and moves the BAR of a second one about), and one that pauses the machine, saves
 * and loads the device, and resumes it. Built with ThreadSanitizer.
 *
 * To have another device in it, describe it in devices.c.
 */
#ifndef RACES_H
#define RACES_H

#include <stdbool.h>
#include <stdint.h>

#include "vm.h"
#include "virtio_device.h"

enum { RACE_QUEUES = 5, RACE_SLOT = 3, RACE_OTHER_SLOT = 4 };

/* What the driver puts into a queue: chains of a readable buffer, a writable one, or both. */
struct race_queue {
    uint32_t readable, writable; /* bytes; 0: no such buffer */
    const void *header;          /* what the readable one begins with */
    uint32_t header_size;
    bool answered; /* each is used in time: none may be lost */
};

struct race_device {
    const char *name;
    kvmshim_device *(*create)(kvmshim_vm *vm, const kvmshim_place *place);
    /* Optional: what the control plane does with it, now and then. */
    void (*control)(kvmshim_device *device);
    uint16_t queue_count;
    struct race_queue queues[RACE_QUEUES];
};

extern const struct race_device race_devices[];

/* ---- machine.c ------------------------------------------------------------------ */

kvmshim_vm *machine_create(void);
void machine_destroy(kvmshim_vm *vm);
/* Of the vCPU that the calling thread is. */
uint64_t machine_read(struct vcpu *vcpu, uint64_t address, uint32_t size);
void machine_write(struct vcpu *vcpu, uint64_t address, uint64_t value, uint32_t size);

/* End the program with a text, and failure. */
_Noreturn void give_up(const char *text);
#define REQUIRE(condition)                                                                        \
    do {                                                                                          \
        if (!(condition))                                                                         \
            give_up(#condition);                                                                  \
    } while (0)

/* ---- driver.c -------------------------------------------------------------------- */

struct driver; /* of the device at RACE_SLOT */

struct driver *driver_create(struct vcpu *vcpu, kvmshim_device *device,
                             const struct race_device *kind);
void driver_free(struct driver *driver);
/* Do one thing: add, take, or begin anew. */
void driver_step(struct driver *driver, unsigned int *seed);
/* Is every chain back that will be? */
bool driver_is_done(struct driver *driver);
uint64_t driver_requests(const struct driver *driver);

#endif
