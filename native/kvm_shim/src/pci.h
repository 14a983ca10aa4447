/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI root bus as its devices see it. */
#ifndef KVM_SHIM_PCI_H
#define KVM_SHIM_PCI_H

#include <stdint.h>

#include "kvm_shim_virtio.h"
#include "pci_config.h"

enum {
    PCI_SLOTS = 32,
    PCI_ID_SIZE = 32, /* of a device's id, with its NUL */
};

/* One function, embedded in its device. */
struct pci_function {
    struct pci_config config;
    /* Optional: the guest wrote config[reg, reg + size), a range within one aligned dword.
     * Called with the bus's lock held, so writes arrive one at a time and in order. It may
     * move BARs (bus_add, bus_remove) if the ops of those regions never access PCI config. */
    void (*written)(struct pci_function *function, uint32_t reg, uint32_t size);
    /* Optional, likewise: the guest is about to read config[reg, reg + size). */
    void (*reading)(struct pci_function *function, uint32_t reg, uint32_t size);
};

/* Refuse an id or a slot that cannot be; the bus and the BAR are for others to judge. */
int pci_check_place(const kvmshim_place *place, kvmshim_error *err);

/* Put a function on the bus `pci` at device << 3 | function. -EEXIST when the place is taken,
 * -EINVAL when it is not what kvmshim_pci_create() made. The function must outlive the bus's
 * last access. */
int pci_attach(kvmshim_device *pci, uint8_t devfn, struct pci_function *function,
               kvmshim_error *err);
/* When it returns nobody is in `written` any more. */
void pci_detach(kvmshim_device *pci, uint8_t devfn);

#endif
