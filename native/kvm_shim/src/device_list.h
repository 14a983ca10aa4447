/* SPDX-License-Identifier: Apache-2.0 */
/* What the VM does with all of its devices. */
#ifndef KVM_SHIM_DEVICE_LIST_H
#define KVM_SHIM_DEVICE_LIST_H

#include <stdint.h>

#include "kvm_shim.h"

/* All of them, or none: -ETIMEDOUT when one could not by then. */
int device_pause_all(kvmshim_vm *vm, uint64_t deadline_ns, kvmshim_error *err);
void device_resume_all(kvmshim_vm *vm);
void device_destroy_all(kvmshim_vm *vm);

#endif
