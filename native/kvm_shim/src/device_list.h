/* SPDX-License-Identifier: Apache-2.0 */
/* What the VM does with all of its devices. */
#ifndef KVM_SHIM_DEVICE_LIST_H
#define KVM_SHIM_DEVICE_LIST_H

#include "kvm_shim.h"

void device_pause_all(kvmshim_vm *vm);
void device_resume_all(kvmshim_vm *vm);
void device_destroy_all(kvmshim_vm *vm);

#endif
