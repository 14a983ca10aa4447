/* SPDX-License-Identifier: Apache-2.0 */
/* What a table of rules for system calls is written with. */
#ifndef KVM_SHIM_SECCOMP_RULES_H
#define KVM_SHIM_SECCOMP_RULES_H

#include <stddef.h>
#include <sys/syscall.h>

#include "kvm_shim_seccomp.h"

struct seccomp_rules {
    const kvmshim_seccomp_rule *rules;
    size_t count;
};

extern const struct seccomp_rules seccomp_calls, seccomp_ioctls;

enum {
    CONTROL = 1u << KVMSHIM_THREAD_CONTROL,
    VCPU = 1u << KVMSHIM_THREAD_VCPU,
    LINE = 1u << KVMSHIM_THREAD_LINE,
    DISK = 1u << KVMSHIM_THREAD_DISK,
    POOL = 1u << KVMSHIM_THREAD_DISK_POOL,
    NET = 1u << KVMSHIM_THREAD_NET,
    VSOCK = 1u << KVMSHIM_THREAD_VSOCK,
    RNG = 1u << KVMSHIM_THREAD_RNG,
    BALLOON = 1u << KVMSHIM_THREAD_BALLOON,
    PMEM = 1u << KVMSHIM_THREAD_PMEM,
    WATCHDOG = 1u << KVMSHIM_THREAD_WATCHDOG,

    DEVICES = LINE | DISK | NET | VSOCK | RNG | BALLOON | PMEM | WATCHDOG,
    EVERY = CONTROL | VCPU | DEVICES | POOL,
};

#define RULE(name, who, reason, ...)                                                              \
    {.call = #name, .number = SYS_##name, .kinds = who, .why = reason, __VA_ARGS__}
#define IOCTL(request, who, reason, ...)                                                          \
    RULE(ioctl, who, reason, .tests = {IS(1, (uint32_t)(request))}, __VA_ARGS__)

/* The kernel looks at 32 bits of nearly all arguments; what is above them does not matter. */
#define IS(index, wanted) {.argument = index, .mask = 0xffffffff, .value = wanted}
#define WITHOUT(index, bits) {.argument = index, .mask = bits}
#define OWN_PID(index) {.argument = index, .mask = 0xffffffff, .own_pid = 1}

#define SEEN(when) .seen = KVMSHIM_SEEN_##when

#endif
