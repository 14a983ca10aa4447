/* SPDX-License-Identifier: Apache-2.0 */
/* Filters of system calls, as threads take them. */
#ifndef KVM_SHIM_SECCOMP_FILTER_H
#define KVM_SHIM_SECCOMP_FILTER_H

#include <linux/filter.h>

#include "kvm_shim_seccomp.h"

struct kvmshim_seccomp {
    struct sock_fprog programs[KVMSHIM_THREAD_KINDS];
};

/* The filter that a thread of this VM takes for its kind; NULL for none: the VM is not confined,
 * or the kind is _CONTROL, whose filter all threads have. */
const struct sock_fprog *seccomp_filter(const kvmshim_vm *vm, unsigned int kind);

#endif
