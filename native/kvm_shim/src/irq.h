/* SPDX-License-Identifier: Apache-2.0 */
/* The GSI routing table: KVM's own legacy pins, and MSIs on the GSIs above them. */
#ifndef KVM_SHIM_IRQ_H
#define KVM_SHIM_IRQ_H

#include <pthread.h>
#include <stdint.h>

#include "kvm_shim.h"

#define IRQ_PINS 24u     /* of the IOAPIC; GSIs below this are its pins */
#define IRQ_GSI_MAX 4095 /* KVM_MAX_IRQ_ROUTES - 1 */

struct msi_route {
    uint32_t gsi;
    uint32_t data;
    uint64_t address;
};

struct irq_routes {
    pthread_mutex_t lock;
    struct msi_route *msi; /* sorted by GSI */
    uint32_t count;
    uint32_t next; /* the lowest GSI that irq_allocate() has not given out */
};

int irq_init(struct irq_routes *routes);
void irq_free(struct irq_routes *routes);

/* Set `count` GSIs for MSIs aside, for the life of the VM: *first and those after it. The same
 * devices, created in the same order, get the same ones. -ENOSPC when there are no more. */
int irq_allocate(kvmshim_vm *vm, uint32_t count, uint32_t *first, kvmshim_error *err);

/* Replace all MSI routes at once, by `count` routes in ascending order of GSI (checked). */
int irq_replace(kvmshim_vm *vm, const struct msi_route *routes, uint32_t count,
                kvmshim_error *err);

#endif
