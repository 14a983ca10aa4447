/* SPDX-License-Identifier: Apache-2.0 */
/* One virtual CPU: its KVM descriptor, its thread and its counters. */
#ifndef KVM_SHIM_VCPU_H
#define KVM_SHIM_VCPU_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bus_table.h"
#include "kvm_shim.h"

/* Written by the vCPU's thread alone, read by anyone. */
struct vcpu_counters {
    _Atomic uint64_t exits[KVMSHIM_EXIT_KINDS];
    _Atomic uint64_t unclaimed[BUS_SPACES];
    _Atomic uint64_t first_run_ns;
};

struct vcpu {
    kvmshim_vm *vm;
    uint32_t index;
    int fd;
    struct kvm_run *run;
    /* Written at every exit: not in a cache line that another vCPU writes too. */
    _Alignas(64) struct bus_reader reader;
    struct vcpu_counters counters;
    /* The rest is guarded by the run control's lock. */
    pthread_t thread;
    pid_t tid; /* the kernel's number of it; there once it has parked */
    bool parked;
    bool nmi; /* to be injected by the thread itself */
};

/* The vCPU whose thread is calling; NULL for any other thread. */
struct vcpu *vcpu_current(kvmshim_vm *vm);

/* Vcpu number `index`, or NULL and -EINVAL in *err. */
struct vcpu *vcpu_get(kvmshim_vm *vm, uint32_t index, kvmshim_error *err);

/* The same, and -EBUSY when the vCPU might be running: its state may be touched. */
int vcpu_get_stopped(kvmshim_vm *vm, uint32_t index, struct vcpu **vcpu, kvmshim_error *err);

int vcpu_get_registers(const struct vcpu *vcpu, kvmshim_registers *regs, kvmshim_error *err);

void vcpu_free(struct vcpu *vcpu);

/* The thread's start routine: runs the guest whenever the run control lets it. */
void *vcpu_thread(void *vcpu);

/* The signal that makes KVM_RUN return; blocked in the thread at all other times. */
int vcpu_kick_signal(void);

#endif
