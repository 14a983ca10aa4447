/* SPDX-License-Identifier: Apache-2.0 */
/* Model-specific registers: their reset values, and reading and writing them in bulk. */
#ifndef KVM_SHIM_MSR_H
#define KVM_SHIM_MSR_H

#include <linux/kvm.h>
#include <stdint.h>

#include "kvm_shim.h"

/* More than any KVM of today lists. */
#define MSRS_MAX 1024u

/* Write what a CPU has at reset beyond KVM's own defaults. After KVM_SET_CPUID2. */
int msr_set_defaults(int vcpu_fd, kvmshim_error *err);

/* Write all of them, in order; the error names the first that KVM refuses. */
int msr_write(int vcpu_fd, const struct kvm_msr_entry *entries, uint32_t count,
              kvmshim_error *err);

/*
 * Fill `entries` (room for MSRS_MAX) with every MSR that KVM lists as state and lets us
 * read on this vCPU. Returns how many.
 */
int msr_read_all(int kvm_fd, int vcpu_fd, struct kvm_msr_entry *entries, kvmshim_error *err);

#endif
