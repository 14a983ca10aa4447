/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 256 bytes of one PCI function's configuration space. What a guest may change is a mask
 * for each byte, so a BAR is a mask as well: with ~(size - 1) writable and the type bits set
 * but read-only, the guest's sizing protocol (write all ones, read back; PCI 3.0, 6.2.5.1)
 * needs no code.
 */
#ifndef KVM_SHIM_PCI_CONFIG_H
#define KVM_SHIM_PCI_CONFIG_H

#include <stdint.h>

#include "kvm_shim.h"

enum { PCI_CONFIG_SIZE = 256 };

struct pci_config {
    uint8_t bytes[PCI_CONFIG_SIZE];
    uint8_t writable[PCI_CONFIG_SIZE];
};

struct pci_identity {
    uint16_t vendor, device;
    uint32_t class_code; /* base class << 16 | sub-class << 8 | programming interface */
    uint8_t revision;
};

/* A type 0 header (PCI 3.0, 6.1) with the standard command bits writable. */
void pci_config_init(struct pci_config *config, const struct pci_identity *identity);

/* The owner's view: set registers and what the guest may write of them. */
void pci_config_set(struct pci_config *config, uint32_t reg, uint32_t size, uint32_t value,
                    uint32_t writable);

/* The guest's view. reg + size may exceed the 256 bytes: what lies beyond reads all ones. */
void pci_config_read(const struct pci_config *config, uint32_t reg, uint8_t *data, uint32_t size);
void pci_config_write(struct pci_config *config, uint32_t reg, const uint8_t *data,
                      uint32_t size);

/* Take over saved bytes; -EINVAL, and no change, when they differ where nobody can write. */
int pci_config_load(struct pci_config *config, const uint8_t bytes[PCI_CONFIG_SIZE],
                    kvmshim_error *err);

#endif
