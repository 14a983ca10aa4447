/* SPDX-License-Identifier: Apache-2.0 */
/* Who may run: start, pause, resume, halt and stop of all vCPU threads. */
#ifndef KVM_SHIM_CONTROL_H
#define KVM_SHIM_CONTROL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvm_shim.h"
#include "vcpu.h"

enum run_state {
    RUN_NEW, /* no threads yet */
    RUN_PAUSED,
    RUN_RESUMING, /* the devices are being told */
    RUN_RUNNING,
    RUN_PAUSING, /* the vCPUs are being parked, then the devices told */
};

struct run_control {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* on CLOCK_MONOTONIC; of anything below */
    enum run_state state;
    bool halted;   /* no vCPU runs again, whatever the state */
    bool announced; /* the control plane was told so */
    kvmshim_event halt_event;
    bool stopping; /* the threads return */
    uint32_t threads;
    uint32_t parked;
};

int control_init(struct run_control *control, kvmshim_error *err);
void control_free(struct run_control *control);

/* Called by a vCPU thread whenever KVM_RUN was interrupted: do what was asked of it, park
 * while it may not run. False when the thread has to return. */
bool control_wait_turn(struct vcpu *vcpu);

/* Keep every vCPU from running again; the caller's own stops at its next KVM_RUN. The event
 * is queued once all of them are parked, unless another one did the same before. */
void control_halt(kvmshim_vm *vm, const kvmshim_event *event);

/* Make every thread return, and join it. */
void control_stop(kvmshim_vm *vm);

/* The CPU time that the vCPU's thread has had; 0 before it is started. */
uint64_t control_cpu_ns(struct run_control *control, const struct vcpu *vcpu);

/* -EBUSY unless all vCPUs are parked or not started. */
int control_require_stopped(kvmshim_vm *vm, kvmshim_error *err);

#endif
