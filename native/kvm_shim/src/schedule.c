/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the host runs the vCPUs' threads, and beside whom. Threads whose core scheduling
 * cookies differ never run on the hardware threads of one core at the same time, so that what
 * one leaves in the core's caches and buffers is not there for the other to find (Linux,
 * Documentation/admin-guide/hw-vuln/core-scheduling.rst).
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/prctl.h>
#include <sched.h>
#include <sys/prctl.h>

#include "control.h"
#include "error.h"
#include "thread.h"
#include "vm.h"

#define STACK_SIZE (64 * 1024)
#define THREAD_SCOPE 0 /* the cookie of one thread, not of its process: PIDTYPE_PID */
#define CPU_LIMIT 65536u

struct sharing {
    const kvmshim_vm *vm;
    int code;
};

static int cookie(int command, pid_t thread)
{
    return prctl(PR_SCHED_CORE, command, thread, THREAD_SCOPE, 0) < 0 ? -errno : 0;
}

/* A cookie is passed on by a thread that has it, and none can put its own down again: so one
 * thread lives for this alone. */
static void *share_cookie(void *argument)
{
    struct sharing *sharing = argument;
    const kvmshim_vm *vm = sharing->vm;

    sharing->code = cookie(PR_SCHED_CORE_CREATE, 0);
    for (uint32_t i = 0; i < vm->control.threads && sharing->code == 0; i++)
        sharing->code = cookie(PR_SCHED_CORE_SHARE_TO, vm->vcpus[i]->tid);
    return NULL;
}

static int one_for_all(const kvmshim_vm *vm)
{
    struct sharing sharing = {.vm = vm};
    const struct thread_start start = {
        .name = "core-cookie", .stack = STACK_SIZE, .run = share_cookie, .argument = &sharing};
    pthread_t thread;
    int ret = thread_create(&thread, &start);

    if (ret < 0)
        return ret;
    pthread_join(thread, NULL);
    return sharing.code;
}

static int one_for_each(const kvmshim_vm *vm)
{
    int ret = 0;

    for (uint32_t i = 0; i < vm->control.threads && ret == 0; i++)
        ret = cookie(PR_SCHED_CORE_CREATE, vm->vcpus[i]->tid);
    return ret;
}

int kvmshim_vm_core_scheduling(kvmshim_vm *vm, int scope, kvmshim_error *err)
{
    int ret;

    if (vm->control.threads == 0)
        return error_set(err, -EINVAL, "core scheduling of a VM that was not started");
    switch (scope) {
    case KVMSHIM_CORE_VM:
        ret = one_for_all(vm);
        break;
    case KVMSHIM_CORE_VCPU:
        ret = one_for_each(vm);
        break;
    default:
        return error_set(err, -EINVAL, "core scheduling by scope %d", scope);
    }
    if (ret == -EINVAL)
        return error_set(err, -EOPNOTSUPP, "this kernel has no core scheduling");
    if (ret < 0)
        return error_set(err, ret, "core scheduling (PR_SCHED_CORE)");
    return 0;
}

/* What the kernel made of the request: it leaves out what there is not. */
static int check_affinity(const struct vcpu *vcpu, const cpu_set_t *wanted, size_t size,
                          kvmshim_error *err)
{
    cpu_set_t *got = CPU_ALLOC(CPU_LIMIT);
    int ret;

    if (got == NULL)
        return error_set(err, -ENOMEM, "allocate a set of CPUs");
    ret = -pthread_getaffinity_np(vcpu->thread, size, got);
    if (ret < 0)
        error_set(err, ret, "read back the affinity of vCPU %u", vcpu->index);
    for (uint32_t cpu = 0; cpu < CPU_LIMIT && ret == 0; cpu++)
        if (CPU_ISSET_S(cpu, size, wanted) && !CPU_ISSET_S(cpu, size, got))
            ret = error_set(err, -ENODEV, "CPU %" PRIu32 " cannot be used", cpu);
    CPU_FREE(got);
    return ret;
}

int kvmshim_vcpu_set_affinity(kvmshim_vm *vm, uint32_t index, const uint32_t *cpus,
                              uint32_t count, kvmshim_error *err)
{
    const size_t size = CPU_ALLOC_SIZE(CPU_LIMIT);
    const struct vcpu *vcpu = vcpu_get(vm, index, err);
    cpu_set_t *set;
    int ret = 0;

    if (vcpu == NULL)
        return -EINVAL;
    if (index >= vm->control.threads)
        return error_set(err, -EINVAL, "affinity of vCPU %u, which was not started", index);
    set = CPU_ALLOC(CPU_LIMIT);
    if (set == NULL)
        return error_set(err, -ENOMEM, "allocate a set of CPUs");
    CPU_ZERO_S(size, set);
    for (uint32_t i = 0; i < count && ret == 0; i++) {
        if (cpus[i] >= CPU_LIMIT)
            ret = error_set(err, -ENODEV, "CPU %" PRIu32 " cannot be used", cpus[i]);
        else
            CPU_SET_S(cpus[i], size, set);
    }
    if (ret == 0) {
        ret = -pthread_setaffinity_np(vcpu->thread, size, set);
        if (ret == -EINVAL)
            ret = error_set(err, -ENODEV, "none of the CPUs can be used");
        else if (ret < 0)
            error_set(err, ret, "set the affinity of vCPU %u", index);
    }
    if (ret == 0)
        ret = check_affinity(vcpu, set, size, err);
    CPU_FREE(set);
    return ret;
}
