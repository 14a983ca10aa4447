/* SPDX-License-Identifier: Apache-2.0 */
/* A list of named counters, filled by a device for whoever asks. */
#ifndef KVM_SHIM_COUNTERS_H
#define KVM_SHIM_COUNTERS_H

#include <stdint.h>

#include "kvm_shim_virtio.h"

struct counters {
    kvmshim_counter *entries;
    uint32_t capacity, count; /* count may exceed the capacity: nothing is stored then */
};

void counters_add(struct counters *counters, uint64_t value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
