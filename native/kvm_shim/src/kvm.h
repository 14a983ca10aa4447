/* SPDX-License-Identifier: Apache-2.0 */
/* The /dev/kvm system descriptor and the one way to make its calls. */
#ifndef KVM_SHIM_KVM_H
#define KVM_SHIM_KVM_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm_shim.h"

/* ioctl() that gives -errno, and starts over when a signal came in between (creating a VM
 * starts a kernel worker and may be interrupted). Not for KVM_RUN. */
int kvm_call(int fd, unsigned long request, void *argument);
int kvm_call_value(int fd, unsigned long request, unsigned long value);

/* Open the device and check that it is a KVM of API version 12 that has every capability
 * the shim needs. Returns the descriptor. */
int kvm_open(const char *device, kvmshim_error *err);

/* KVM_CHECK_EXTENSION: 0 when absent, else what the capability reports. */
uint32_t kvm_capability(int fd, unsigned long capability);

#endif
