/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X (PCI 3.0, 6.8.2). Each vector is an eventfd: whoever has something to say writes to
 * it, and never asks whether the vector is masked. While it is not, KVM has the eventfd as an
 * irqfd. While it is, nobody reads it, so the eventfd itself is the pending bit, and what is
 * pending is written again once KVM has it back.
 */
#ifndef KVM_SHIM_MSIX_H
#define KVM_SHIM_MSIX_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm_shim.h"
#include "pci_config.h"

#define MSIX_VECTORS_MAX 2048u
#define MSIX_NO_VECTOR 0xffffu

struct msix_vector {
    uint64_t address;
    uint32_t data;
    bool masked;
    bool connected; /* the eventfd is KVM's irqfd */
    int fd;
};

struct msix {
    kvmshim_vm *vm;
    uint32_t capability; /* its offset in the configuration space */
    uint32_t gsi;        /* of vector 0; the others follow */
    uint16_t count;
    bool enabled, function_masked;
    bool loading; /* between msix_load() and msix_resume() */
    struct msix_vector *vectors;
};

struct msix_state { /* saved; `count` of them for a function */
    uint64_t address;
    uint32_t data;
    uint8_t masked;
    uint8_t pending;
    uint8_t reserved[2];
} __attribute__((packed));

/* Vectors, eventfds and GSIs, all masked, and the capability at `capability` of `config`. */
int msix_init(struct msix *msix, kvmshim_vm *vm, uint16_t count, struct pci_config *config,
              uint32_t capability, uint32_t table_offset, uint32_t pba_offset,
              kvmshim_error *err);
void msix_free(struct msix *msix);

/*
 * The guest's accesses, offsets relative to the table and to the PBA; and after a write to the
 * capability's message control. One at a time: the owner's lock is held. What the guest wrote
 * holds also when KVM refuses to route a vector, which then stays pending: a negative errno.
 */
void msix_table_read(const struct msix *msix, uint32_t offset, uint8_t *data, uint32_t size);
int msix_table_write(struct msix *msix, uint32_t offset, const uint8_t *data, uint32_t size,
                     kvmshim_error *err);
void msix_pba_read(const struct msix *msix, uint32_t offset, uint8_t *data, uint32_t size);
int msix_control_written(struct msix *msix, const struct pci_config *config, kvmshim_error *err);

/* The eventfd of a vector; -1 for MSIX_NO_VECTOR or one that is not there. */
int msix_fd(const struct msix *msix, uint16_t vector);

void msix_save(const struct msix *msix, struct msix_state *states);
/* -EINVAL when the states make no sense. */
int msix_check(const struct msix *msix, const struct msix_state *states, kvmshim_error *err);
/* Take over states that were checked, and what the loaded `config` says. Nothing is delivered
 * before msix_resume(): the interrupt controllers may yet be loaded. */
void msix_load(struct msix *msix, const struct msix_state *states,
               const struct pci_config *config);
int msix_resume(struct msix *msix, kvmshim_error *err);

#endif
