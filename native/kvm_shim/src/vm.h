/* SPDX-License-Identifier: Apache-2.0 */
/* The virtual machine: everything that one kvmshim_vm owns. */
#ifndef KVM_SHIM_VM_H
#define KVM_SHIM_VM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus_table.h"
#include "control.h"
#include "event.h"
#include "irq.h"
#include "kvm_shim.h"
#include "kvm_shim_seccomp.h"
#include "memory.h"
#include "vcpu.h"

/* More than any KVM of today recommends; the host's own limit is checked by KVM. */
#define VCPUS_MAX 1024

struct kvmshim_vm {
    int kvm_fd;
    int vm_fd;
    uint32_t run_size;   /* of the mapping of struct kvm_run */
    uint32_t xsave_size; /* of KVM_GET_XSAVE2; 4096 when the kernel has only KVM_GET_XSAVE */
    bool has_xsave2;
    bool has_sregs2;
    uint32_t nested_size; /* of KVM_GET_NESTED_STATE; 0 when this KVM nests nothing */
    struct memory memory;
    struct irq_routes irq;
    struct bus bus;
    struct events events;
    struct run_control control;
    kvmshim_device *devices;
    const kvmshim_seccomp *seccomp; /* for its threads; NULL: they are not confined */
    _Atomic uint32_t vcpu_count; /* published after the vCPU it covers */
    struct vcpu *vcpus[VCPUS_MAX];
};

#endif
