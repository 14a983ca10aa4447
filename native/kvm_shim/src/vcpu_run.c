/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of a vCPU: KVM_RUN, and what to do about each exit. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "device.h"
#include "error.h"
#include "event.h"
#include "vcpu.h"
#include "vm.h"

int vcpu_kick_signal(void)
{
    /* Never delivered: blocked in the thread, and in KVM_RUN it only ends the call. */
    return SIGRTMIN;
}

/* One writer, so no locked instruction: the readers need whole values, not the latest. */
static void count_one(_Atomic uint64_t *counter)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, value + 1, memory_order_relaxed);
}

static void count_exit(struct vcpu *vcpu, uint32_t kind)
{
    count_one(&vcpu->counters.exits[kind]);
}

static void access_bus(struct vcpu *vcpu, int space, uint64_t address, bool is_write,
                       uint8_t *data, uint32_t size)
{
    if (!is_write)
        memset(data, 0xff, size);
    if (!bus_dispatch(&vcpu->vm->bus, &vcpu->reader, space, address, is_write, data, size))
        count_one(&vcpu->counters.unclaimed[space]);
}

static void handle_io(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    uint32_t size = run->io.size;
    uint16_t port = run->io.port;
    bool is_write = run->io.direction == KVM_EXIT_IO_OUT;

    /* A string instruction comes as one exit with several elements, all for one port. */
    for (uint32_t left = run->io.count; left != 0; left--, data += size)
        access_bus(vcpu, KVMSHIM_SPACE_PIO, port, is_write, data, size);
}

static void handle_mmio(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;

    access_bus(vcpu, KVMSHIM_SPACE_MMIO, run->mmio.phys_addr, run->mmio.is_write != 0,
               run->mmio.data, run->mmio.len);
}

/* Report what ends the guest's run, with its registers where they can still be read. */
static void report(struct vcpu *vcpu, uint32_t kind, const char *source, uint64_t detail0,
                   uint64_t detail1)
{
    kvmshim_event event = {.kind = kind, .detail = {detail0, detail1}};

    strncpy(event.source, source, sizeof(event.source) - 1);
    if (vcpu_get_registers(vcpu, &event.registers, NULL) < 0)
        memset(&event.registers, 0, sizeof(event.registers));
    event_post(vcpu->vm, &event);
}

static void report_error(struct vcpu *vcpu, const char *source, uint64_t detail)
{
    count_exit(vcpu, KVMSHIM_EXIT_ERROR);
    report(vcpu, KVMSHIM_EVENT_INTERNAL_ERROR, source, detail, vcpu->run->exit_reason);
}

/* KVM_EXIT_SYSTEM_EVENT. False when the guest is not to run on. */
static bool handle_system_event(struct vcpu *vcpu)
{
    count_exit(vcpu, KVMSHIM_EXIT_SYSTEM_EVENT);
    switch (vcpu->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        machine_event(vcpu->vm, KVMSHIM_EVENT_POWER_OFF, "kvm");
        return false;
    case KVM_SYSTEM_EVENT_RESET:
        machine_event(vcpu->vm, KVMSHIM_EVENT_RESET, "kvm");
        return false;
    case KVM_SYSTEM_EVENT_CRASH:
        machine_event(vcpu->vm, KVMSHIM_EVENT_GUEST_PANIC, "kvm");
        return false;
    default:
        return true;
    }
}

/* Every exit that is neither I/O nor MMIO. False when the guest is not to run on. */
static bool handle_rare_exit(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;

    switch (run->exit_reason) {
    case KVM_EXIT_HLT:
        count_exit(vcpu, KVMSHIM_EXIT_HLT);
        return true;
    case KVM_EXIT_SHUTDOWN:
        count_exit(vcpu, KVMSHIM_EXIT_SHUTDOWN);
        report(vcpu, KVMSHIM_EVENT_TRIPLE_FAULT, "kvm", 0, KVM_EXIT_SHUTDOWN);
        return false;
    case KVM_EXIT_SYSTEM_EVENT:
        return handle_system_event(vcpu);
    case KVM_EXIT_INTERNAL_ERROR:
        report_error(vcpu, "kvm_internal", run->internal.suberror);
        return false;
    case KVM_EXIT_FAIL_ENTRY:
        report_error(vcpu, "kvm_entry", run->fail_entry.hardware_entry_failure_reason);
        return false;
    case KVM_EXIT_UNKNOWN:
        report_error(vcpu, "kvm_unknown", run->hw.hardware_exit_reason);
        return false;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
        count_exit(vcpu, KVMSHIM_EXIT_OTHER);
        return true;
    default:
        /* Nothing that was asked for: to run on would only repeat it. */
        report_error(vcpu, "kvm_exit", run->exit_reason);
        return false;
    }
}

/* KVM_RUN failed. True when it is to be tried again without further ado. */
static bool handle_failure(struct vcpu *vcpu, int code)
{
    const struct timespec at_once = {0};
    sigset_t kick;

    switch (code) {
    case EINTR:
        count_exit(vcpu, KVMSHIM_EXIT_INTERRUPTED);
        /* It ended KVM_RUN but is still pending, and would end each one from now on. */
        sigemptyset(&kick);
        sigaddset(&kick, vcpu_kick_signal());
        while (sigtimedwait(&kick, NULL, &at_once) > 0)
            ;
        return false;
    case EAGAIN:
        /* A vCPU that waited for INIT got it. */
        return true;
    default:
        count_exit(vcpu, KVMSHIM_EXIT_ERROR);
        report(vcpu, KVMSHIM_EVENT_INTERNAL_ERROR, "kvm_run", (uint64_t)code,
               vcpu->run->exit_reason);
        return false;
    }
}

/* Run the guest until the thread is wanted elsewhere or the guest is at its end. */
static void run_guest(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;

    for (;;) {
        if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
            if (!handle_failure(vcpu, errno))
                return;
        } else if (run->exit_reason == KVM_EXIT_IO) {
            count_exit(vcpu, KVMSHIM_EXIT_IO);
            handle_io(vcpu);
        } else if (run->exit_reason == KVM_EXIT_MMIO) {
            count_exit(vcpu, KVMSHIM_EXIT_MMIO);
            handle_mmio(vcpu);
        } else if (!handle_rare_exit(vcpu)) {
            return;
        }
    }
}

void *vcpu_thread(void *argument)
{
    struct vcpu *vcpu = argument;

    vcpu->tid = gettid();
    atomic_store(&vcpu->reader.thread, pthread_self());
    if (control_wait_turn(vcpu)) {
        atomic_store(&vcpu->counters.first_run_ns, machine_now_ns());
        do {
            run_guest(vcpu);
        } while (control_wait_turn(vcpu));
    }
    return NULL;
}
