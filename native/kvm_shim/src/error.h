/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KVM_SHIM_ERROR_H
#define KVM_SHIM_ERROR_H

#include "kvm_shim.h"

/* Fill *err (may be NULL) and return `code`, a negative errno. The text says what was
 * being done; strerror() of the code is appended. */
int error_set(kvmshim_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
