/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 64-bit memory BAR: it answers where the guest put it, while the guest has memory decoding
 * on. Where something else answers already it does not, until it is moved again.
 */
#ifndef KVM_SHIM_PCI_BAR_H
#define KVM_SHIM_PCI_BAR_H

#include <stdbool.h>
#include <stdint.h>

#include "bus.h"
#include "pci_config.h"

struct pci_bar {
    kvmshim_vm *vm;
    struct pci_config *config;
    uint32_t reg;  /* PCI_BASE_ADDRESS_0, _2 or _4 */
    uint64_t size; /* a power of two, at least 16 */
    const struct bus_ops *ops;
    void *opaque;
    /* Optional: it answers at `base` from now on, or will not any more. */
    void (*moved)(void *opaque, bool answers);

    uint64_t base; /* where it answers */
    bool mapped;   /* ... if it does */
};

/* Set the registers of `bar`, whose first half is filled in, for a start at `base`. It does not
 * answer yet. */
int pci_bar_init(struct pci_bar *bar, uint64_t base, kvmshim_error *err);

/* Answer where the registers say now: after a write of the guest, a load. -EEXIST where
 * something else does. The bus's lock is held or no vCPU runs, and no lock that the ops take. */
int pci_bar_follow(struct pci_bar *bar, kvmshim_error *err);

/* Answer nowhere. */
void pci_bar_unmap(struct pci_bar *bar);

#endif
