/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a wake-up cannot get lost: under the lock the kicker changes the state, sets
 * immediate_exit in the vCPU's kvm_run and sends the thread a signal that is blocked
 * except inside KVM_RUN. If the thread is in the guest the signal ends KVM_RUN; if it is
 * on its way there immediate_exit does. Only the thread clears immediate_exit, under the
 * same lock, after it has seen the state that the kicker set. KVM_RUN completes the I/O
 * of the last exit before it looks at immediate_exit, so a parked vCPU never has a half
 * done access in its saved state.
 */
#include "control.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

#include "device.h"
#include "device_list.h"
#include "error.h"
#include "event.h"
#include "kvm.h"
#include "seccomp_filter.h"
#include "thread.h"
#include "vm.h"

/* A vCPU thread's deepest stack is a device op and an event with its registers. */
#define STACK_SIZE (256 * 1024)

int control_init(struct run_control *control, kvmshim_error *err)
{
    pthread_condattr_t attributes;
    int ret;

    ret = pthread_mutex_init(&control->lock, NULL);
    if (ret != 0)
        return error_set(err, -ret, "run control lock");
    ret = pthread_condattr_init(&attributes);
    if (ret == 0) {
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        ret = pthread_cond_init(&control->changed, &attributes);
        pthread_condattr_destroy(&attributes);
    }
    if (ret != 0) {
        pthread_mutex_destroy(&control->lock);
        return error_set(err, -ret, "run control condition");
    }
    return 0;
}

void control_free(struct run_control *control)
{
    pthread_cond_destroy(&control->changed);
    pthread_mutex_destroy(&control->lock);
}

/* The lock is held. */
static void kick(struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    pthread_kill(vcpu->thread, vcpu_kick_signal());
}

/* The lock is held. */
static void kick_all(kvmshim_vm *vm)
{
    for (uint32_t i = 0; i < vm->control.threads; i++)
        kick(vm->vcpus[i]);
    pthread_cond_broadcast(&vm->control.changed);
}

static bool may_run(const struct run_control *control)
{
    return control->state == RUN_RUNNING && !control->halted;
}

/*
 * The lock is held. The event that halts the VM is held back until the last vCPU is
 * parked: who hears of it may rely on a guest that stands still.
 */
static void announce_halt(kvmshim_vm *vm)
{
    struct run_control *control = &vm->control;

    if (!control->halted || control->announced || control->parked < control->threads)
        return;
    control->announced = true;
    event_queue(vm, &control->halt_event);
}

bool control_wait_turn(struct vcpu *vcpu)
{
    struct run_control *control = &vcpu->vm->control;
    bool stopping;

    pthread_mutex_lock(&control->lock);
    if (vcpu->nmi) {
        vcpu->nmi = false;
        kvm_call_value(vcpu->fd, KVM_NMI, 0);
    }
    if (!may_run(control) && !control->stopping) {
        vcpu->parked = true;
        control->parked++;
        announce_halt(vcpu->vm);
        pthread_cond_broadcast(&control->changed);
        while (!may_run(control) && !control->stopping)
            pthread_cond_wait(&control->changed, &control->lock);
        control->parked--;
        vcpu->parked = false;
    }
    stopping = control->stopping;
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&control->lock);
    return !stopping;
}

void control_halt(kvmshim_vm *vm, const kvmshim_event *event)
{
    struct run_control *control = &vm->control;

    pthread_mutex_lock(&control->lock);
    if (!control->halted) {
        control->halted = true;
        control->halt_event = *event;
        kick_all(vm);
        announce_halt(vm);
    }
    pthread_mutex_unlock(&control->lock);
}

void control_stop(kvmshim_vm *vm)
{
    struct run_control *control = &vm->control;

    pthread_mutex_lock(&control->lock);
    control->stopping = true;
    kick_all(vm);
    pthread_mutex_unlock(&control->lock);
    for (uint32_t i = 0; i < control->threads; i++)
        pthread_join(vm->vcpus[i]->thread, NULL);
    control->threads = 0;
}

uint64_t control_cpu_ns(struct run_control *control, const struct vcpu *vcpu)
{
    struct timespec used = {0};
    clockid_t clock;

    pthread_mutex_lock(&control->lock);
    if (vcpu->index < control->threads && pthread_getcpuclockid(vcpu->thread, &clock) == 0)
        clock_gettime(clock, &used);
    pthread_mutex_unlock(&control->lock);
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

int control_require_stopped(kvmshim_vm *vm, kvmshim_error *err)
{
    struct run_control *control = &vm->control;
    enum run_state state;

    pthread_mutex_lock(&control->lock);
    state = control->state;
    pthread_mutex_unlock(&control->lock);
    if (state != RUN_NEW && state != RUN_PAUSED)
        return error_set(err, -EBUSY, "the VM is running");
    return 0;
}

/* The lock is held. */
static int start_thread(struct vcpu *vcpu)
{
    char name[16];
    const struct thread_start start = {
        .name = name,
        .stack = STACK_SIZE,
        .filter = seccomp_filter(vcpu->vm, KVMSHIM_THREAD_VCPU),
        .run = vcpu_thread,
        .argument = vcpu,
    };
    int ret;

    snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
    ret = thread_create(&vcpu->thread, &start);
    if (ret == 0)
        vcpu->vm->control.threads++;
    return ret;
}

int kvmshim_vm_start(kvmshim_vm *vm, kvmshim_error *err)
{
    struct run_control *control = &vm->control;
    uint32_t count = atomic_load(&vm->vcpu_count);
    int ret = 0;

    if (count == 0)
        return error_set(err, -EINVAL, "start a VM without vCPUs");
    pthread_mutex_lock(&control->lock);
    if (control->state != RUN_NEW || control->stopping) {
        ret = error_set(err, -EALREADY, "start the VM");
        goto out;
    }
    control->state = RUN_PAUSED;
    for (uint32_t i = 0; i < count && ret == 0; i++) {
        ret = start_thread(vm->vcpus[i]);
        if (ret < 0)
            error_set(err, ret, "start the thread of vCPU %u", i);
    }
    while (ret == 0 && control->parked < control->threads)
        pthread_cond_wait(&control->changed, &control->lock);
out:
    pthread_mutex_unlock(&control->lock);
    /* Threads of a start that failed half way stay parked until the VM is destroyed. */
    return ret;
}

int kvmshim_vm_resume(kvmshim_vm *vm, kvmshim_error *err)
{
    struct run_control *control = &vm->control;
    int ret = 0;

    pthread_mutex_lock(&control->lock);
    if (control->state == RUN_NEW)
        ret = error_set(err, -EINVAL, "resume a VM that was not started");
    else if (control->halted)
        ret = error_set(err, -ESHUTDOWN, "resume a VM that halted");
    else if (control->state == RUN_RUNNING)
        ret = error_set(err, -EALREADY, "resume the VM");
    else if (control->state != RUN_PAUSED)
        ret = error_set(err, -EBUSY, "resume a VM that is being paused or resumed");
    else
        control->state = RUN_RESUMING;
    pthread_mutex_unlock(&control->lock);
    if (ret < 0)
        return ret;

    device_resume_all(vm);
    pthread_mutex_lock(&control->lock);
    control->state = RUN_RUNNING;
    pthread_cond_broadcast(&control->changed);
    pthread_mutex_unlock(&control->lock);
    return 0;
}

/* The lock is held. */
static int wait_until_parked(kvmshim_vm *vm, uint64_t deadline_ns, kvmshim_error *err)
{
    struct run_control *control = &vm->control;
    const struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / 1000000000),
        .tv_nsec = (long)(deadline_ns % 1000000000),
    };
    uint32_t parked;

    while (control->parked < control->threads) {
        if (pthread_cond_timedwait(&control->changed, &control->lock, &deadline) == 0)
            continue;
        parked = control->parked;
        if (parked == control->threads)
            break;
        control->state = RUN_RUNNING;
        pthread_cond_broadcast(&control->changed);
        return error_set(err, -ETIMEDOUT, "%u of %u vCPUs parked in time", parked,
                         control->threads);
    }
    return 0;
}

int kvmshim_vm_pause(kvmshim_vm *vm, uint32_t timeout_ms, kvmshim_error *err)
{
    struct run_control *control = &vm->control;
    const uint64_t deadline = machine_now_ns() + (uint64_t)timeout_ms * 1000000;
    int ret = 0;

    pthread_mutex_lock(&control->lock);
    if (control->state == RUN_NEW) {
        ret = error_set(err, -EINVAL, "pause a VM that was not started");
    } else if (control->state == RUN_PAUSED) {
        ret = error_set(err, -EALREADY, "pause the VM");
    } else if (control->state != RUN_RUNNING) {
        ret = error_set(err, -EBUSY, "pause a VM that is being paused or resumed");
    } else {
        control->state = RUN_PAUSING;
        kick_all(vm);
        ret = wait_until_parked(vm, deadline, err);
    }
    pthread_mutex_unlock(&control->lock);
    if (ret < 0)
        return ret;

    ret = device_pause_all(vm, deadline, err);
    if (ret < 0) {
        pthread_mutex_lock(&control->lock);
        control->state = RUN_RUNNING;
        pthread_cond_broadcast(&control->changed);
        pthread_mutex_unlock(&control->lock);
        return ret;
    }
    /* Tells a guest that uses kvmclock not to take the pause for a soft lockup. KVM answers
     * -EINVAL for a guest that does not. */
    for (uint32_t i = 0; i < control->threads; i++)
        kvm_call_value(vm->vcpus[i]->fd, KVM_KVMCLOCK_CTRL, 0);
    pthread_mutex_lock(&control->lock);
    control->state = RUN_PAUSED;
    pthread_mutex_unlock(&control->lock);
    return 0;
}

int kvmshim_vm_nmi(kvmshim_vm *vm, kvmshim_error *err)
{
    struct run_control *control = &vm->control;
    int ret = 0;

    pthread_mutex_lock(&control->lock);
    if (control->threads == 0)
        ret = error_set(err, -EINVAL, "NMI to a VM that was not started");
    for (uint32_t i = 0; i < control->threads && ret == 0; i++) {
        struct vcpu *vcpu = vm->vcpus[i];

        /* KVM holds a vCPU's lock during KVM_RUN, so only its own thread can inject; one
         * that is parked cannot leave while we hold the control lock. */
        if (!vcpu->parked) {
            vcpu->nmi = true;
            kick(vcpu);
            continue;
        }
        ret = kvm_call_value(vcpu->fd, KVM_NMI, 0);
        if (ret < 0)
            error_set(err, ret, "KVM_NMI of vCPU %u", i);
    }
    pthread_mutex_unlock(&control->lock);
    return ret;
}
