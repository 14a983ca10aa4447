/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The third part of kvm_shim's public interface: which system calls the threads of this
 * process may make. The rules are data; each kind of thread has the filter made of those that
 * name it. The rules at the top of kvm_shim.h hold here too, but for one thing that nobody
 * can keep to himself: kvmshim_seccomp_enter() changes the whole process, for good.
 */
#ifndef KVM_SHIM_SECCOMP_H
#define KVM_SHIM_SECCOMP_H

#include <stdint.h>

#include "kvm_shim.h"

/* cffi: begin */

/*
 * The kinds of thread. A thread takes its kind's filter on top of the one it inherits, that
 * of _CONTROL, which therefore allows whatever any kind needs.
 */
enum {
    KVMSHIM_THREAD_CONTROL, /* of the caller's own, and each of ours until it has set itself up */
    KVMSHIM_THREAD_VCPU,
    KVMSHIM_THREAD_LINE, /* a serial port or console */
    KVMSHIM_THREAD_DISK, /* a queue of a disk */
    KVMSHIM_THREAD_DISK_POOL, /* does a disk's operations where io_uring is not to be had */
    KVMSHIM_THREAD_NET,
    KVMSHIM_THREAD_VSOCK,
    KVMSHIM_THREAD_RNG,
    KVMSHIM_THREAD_BALLOON,
    KVMSHIM_THREAD_PMEM,
    KVMSHIM_THREAD_WATCHDOG,
    KVMSHIM_THREAD_KINDS
};

/* When a rule is used; whoever traces a run can check it. */
enum {
    KVMSHIM_SEEN_ALWAYS,   /* in every run that has all devices */
    KVMSHIM_SEEN_TAP,      /* where taps can be made */
    KVMSHIM_SEEN_VHOST,    /* where the host has vhost-net */
    KVMSHIM_SEEN_URING,    /* where the host has io_uring */
    KVMSHIM_SEEN_LANDLOCK, /* where the host has Landlock */
    KVMSHIM_SEEN_LINUX,    /* by a guest whose drivers do more than those of the tests' own */
    KVMSHIM_SEEN_RARELY,   /* the comment says when: it depends on time, or on the kernel */
};

/* Holds when (argument & mask) == value, or == the process's id. */
typedef struct kvmshim_seccomp_test {
    uint64_t mask; /* 0: no test */
    uint64_t value;
    uint8_t argument; /* its index, 0 to 5 */
    uint8_t own_pid;  /* the value is this process's id */
} kvmshim_seccomp_test;

typedef struct kvmshim_seccomp_rule {
    const char *call; /* its name */
    const char *why;
    kvmshim_seccomp_test tests[2]; /* all have to hold */
    int32_t number;
    int32_t error;  /* 0: allowed; or what the call fails with, without being made */
    uint32_t kinds; /* bit n: kind n */
    uint32_t seen;  /* one of the above */
} kvmshim_seccomp_rule;

/* The rules one after the other; NULL after the last. */
const kvmshim_seccomp_rule *kvmshim_seccomp_rule_at(uint32_t index);

enum {
    KVMSHIM_SECCOMP_KILL = 1, /* a call that no rule allows kills the process */
    KVMSHIM_SECCOMP_LOG = 2,  /* it is made, and logged by the kernel */
};

/* The filters of all kinds of thread, as the kernel takes them. */
typedef struct kvmshim_seccomp kvmshim_seccomp;

int kvmshim_seccomp_create(int mode, kvmshim_seccomp **filters, kvmshim_error *err);
void kvmshim_seccomp_destroy(kvmshim_seccomp *filters);

/* Confine every thread of the process to the filter of _CONTROL, and all that are started
 * later. There is no way back. */
int kvmshim_seccomp_enter(const kvmshim_seccomp *filters, kvmshim_error *err);

/* Have the threads of this VM that are started from here on take the filter of their kind.
 * The filters outlive the VM. -EALREADY when it is done already. */
int kvmshim_vm_confine(kvmshim_vm *vm, const kvmshim_seccomp *filters, kvmshim_error *err);

/* One filter's instructions (struct sock_filter, 8 bytes each), which are part of `filters`. */
const void *kvmshim_seccomp_program(const kvmshim_seccomp *filters, uint32_t kind,
                                    uint32_t *instructions);

/* cffi: end */

#endif
