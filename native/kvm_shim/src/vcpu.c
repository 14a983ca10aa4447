/* SPDX-License-Identifier: Apache-2.0 */
#include "vcpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "control.h"
#include "error.h"
#include "kvm.h"
#include "msr.h"
#include "vm.h"

_Static_assert(sizeof(struct kvm_regs) == 144, "KVM_GET_REGS");
_Static_assert(sizeof(struct kvm_sregs) == 312, "KVM_GET_SREGS");
_Static_assert(sizeof(struct kvm_fpu) == 416, "KVM_SET_FPU");
_Static_assert(sizeof(struct kvm_lapic_state) == 1024, "KVM_GET_LAPIC");

#define CPUID_ENTRIES_MAX 256 /* KVM_MAX_CPUID_ENTRIES */

/* Local APIC registers (Intel SDM volume 3, 11.4.1) and their delivery mode field. */
#define APIC_LVT_LINT0 0x350u
#define APIC_LVT_LINT1 0x360u
#define APIC_MODE_MASK 0x700u
#define APIC_MODE_NMI 0x400u
#define APIC_MODE_EXTINT 0x700u

struct vcpu *vcpu_current(kvmshim_vm *vm)
{
    uint32_t count = atomic_load(&vm->vcpu_count);
    pthread_t self = pthread_self();

    for (uint32_t i = 0; i < count; i++) {
        if (pthread_equal(atomic_load(&vm->vcpus[i]->reader.thread), self))
            return vm->vcpus[i];
    }
    return NULL;
}

struct vcpu *vcpu_get(kvmshim_vm *vm, uint32_t index, kvmshim_error *err)
{
    if (index < atomic_load(&vm->vcpu_count))
        return vm->vcpus[index];
    error_set(err, -EINVAL, "there is no vCPU %u", index);
    return NULL;
}

int vcpu_get_stopped(kvmshim_vm *vm, uint32_t index, struct vcpu **vcpu, kvmshim_error *err)
{
    *vcpu = vcpu_get(vm, index, err);
    if (*vcpu == NULL)
        return -EINVAL;
    return control_require_stopped(vm, err);
}

void vcpu_free(struct vcpu *vcpu)
{
    munmap(vcpu->run, vcpu->vm->run_size);
    close(vcpu->fd);
    free(vcpu);
}

/* The legacy PIC's output and NMIs reach the CPU through its LAPIC's two local pins. */
static int set_local_pins(int fd, kvmshim_error *err)
{
    static const struct {
        uint32_t offset, mode;
    } pins[] = {{APIC_LVT_LINT0, APIC_MODE_EXTINT}, {APIC_LVT_LINT1, APIC_MODE_NMI}};
    struct kvm_lapic_state lapic;
    int ret;

    ret = kvm_call(fd, KVM_GET_LAPIC, &lapic);
    if (ret < 0)
        return error_set(err, ret, "KVM_GET_LAPIC");
    for (size_t i = 0; i < sizeof(pins) / sizeof(pins[0]); i++) {
        uint32_t lvt;

        memcpy(&lvt, lapic.regs + pins[i].offset, sizeof(lvt));
        lvt = (lvt & ~APIC_MODE_MASK) | pins[i].mode;
        memcpy(lapic.regs + pins[i].offset, &lvt, sizeof(lvt));
    }
    ret = kvm_call(fd, KVM_SET_LAPIC, &lapic);
    if (ret < 0)
        return error_set(err, ret, "KVM_SET_LAPIC");
    return 0;
}

/* What KVM_RUN unblocks: the kick alone, so that it alone can interrupt the guest. */
static int set_signal_mask(int fd, kvmshim_error *err)
{
    /* The kernel's signal set has 64 bits, signal n at bit n - 1; sigset_t has 1024. */
    const uint64_t blocked = ~(UINT64_C(1) << (vcpu_kick_signal() - 1));
    struct {
        struct kvm_signal_mask mask;
        uint8_t set[sizeof(blocked)];
    } argument = {.mask = {.len = sizeof(blocked)}};
    int ret;

    _Static_assert(offsetof(__typeof__(argument), set) == sizeof(struct kvm_signal_mask),
                   "the set follows its length");
    memcpy(argument.set, &blocked, sizeof(blocked));
    ret = kvm_call(fd, KVM_SET_SIGNAL_MASK, &argument);
    if (ret < 0)
        return error_set(err, ret, "KVM_SET_SIGNAL_MASK");
    return 0;
}

static int set_reset_state(int fd, kvmshim_error *err)
{
    /* What FNINIT and a reset leave (Intel SDM volume 3, table 10-1). */
    struct kvm_fpu fpu = {.fcw = 0x37f, .mxcsr = 0x1f80};
    int ret = kvm_call(fd, KVM_SET_FPU, &fpu);

    if (ret < 0)
        return error_set(err, ret, "KVM_SET_FPU");
    ret = set_local_pins(fd, err);
    if (ret < 0)
        return ret;
    return set_signal_mask(fd, err);
}

static int open_vcpu(kvmshim_vm *vm, uint32_t index, uint32_t apic_id, kvmshim_error *err)
{
    int ret;

    /* KVM takes id 0 for the boot CPU unless told, and that only before the first vCPU. */
    if (index == 0 && apic_id != 0) {
        ret = kvm_call_value(vm->vm_fd, KVM_SET_BOOT_CPU_ID, apic_id);
        if (ret < 0)
            return error_set(err, ret, "KVM_SET_BOOT_CPU_ID %u", apic_id);
    }
    ret = kvm_call_value(vm->vm_fd, KVM_CREATE_VCPU, apic_id);
    if (ret < 0)
        return error_set(err, ret, "KVM_CREATE_VCPU %u with APIC id %u", index, apic_id);
    return ret;
}

int kvmshim_vcpu_create(kvmshim_vm *vm, uint32_t index, uint32_t apic_id, kvmshim_error *err)
{
    uint32_t count = atomic_load(&vm->vcpu_count);
    struct vcpu *vcpu;
    void *run;
    int ret;

    if (index != count || index >= VCPUS_MAX)
        return error_set(err, -EINVAL, "vCPU %u comes next, not %u", count, index);
    if (vm->control.threads != 0)
        return error_set(err, -EBUSY, "vCPU %u after the VM was started", index);
    vcpu = aligned_alloc(_Alignof(struct vcpu), sizeof(*vcpu));
    if (vcpu == NULL)
        return error_set(err, -ENOMEM, "allocate vCPU %u", index);
    memset(vcpu, 0, sizeof(*vcpu));
    vcpu->vm = vm;
    vcpu->index = index;
    vcpu->fd = open_vcpu(vm, index, apic_id, err);
    if (vcpu->fd < 0) {
        ret = vcpu->fd;
        goto no_vcpu;
    }
    run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED) {
        ret = error_set(err, -errno, "map struct kvm_run of vCPU %u", index);
        goto no_run;
    }
    vcpu->run = run;
    ret = set_reset_state(vcpu->fd, err);
    if (ret < 0)
        goto no_state;
    vm->vcpus[index] = vcpu;
    atomic_store(&vm->vcpu_count, count + 1);
    return 0;

no_state:
    munmap(run, vm->run_size);
no_run:
    close(vcpu->fd);
no_vcpu:
    free(vcpu);
    return ret;
}

int kvmshim_vcpu_set_cpuid(kvmshim_vm *vm, uint32_t index, const kvmshim_cpuid_entry *entries,
                           uint32_t count, kvmshim_error *err)
{
    struct kvm_cpuid2 *cpuid;
    struct vcpu *vcpu;
    int ret;

    ret = vcpu_get_stopped(vm, index, &vcpu, err);
    if (ret < 0)
        return ret;
    if (count > CPUID_ENTRIES_MAX)
        return error_set(err, -E2BIG, "%u CPUID entries", count);
    cpuid = calloc(1, sizeof(*cpuid) + count * sizeof(cpuid->entries[0]));
    if (cpuid == NULL)
        return error_set(err, -ENOMEM, "allocate %u CPUID entries", count);
    cpuid->nent = count;
    for (uint32_t i = 0; i < count; i++) {
        cpuid->entries[i] = (struct kvm_cpuid_entry2){
            .function = entries[i].function,
            .index = entries[i].index,
            .flags = entries[i].flags,
            .eax = entries[i].eax,
            .ebx = entries[i].ebx,
            .ecx = entries[i].ecx,
            .edx = entries[i].edx,
        };
    }
    ret = kvm_call(vcpu->fd, KVM_SET_CPUID2, cpuid);
    free(cpuid);
    if (ret < 0)
        return error_set(err, ret, "KVM_SET_CPUID2 of vCPU %u with %u entries", index, count);
    return msr_set_defaults(vcpu->fd, err);
}

int vcpu_get_registers(const struct vcpu *vcpu, kvmshim_registers *registers, kvmshim_error *err)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    int ret;

    ret = kvm_call(vcpu->fd, KVM_GET_REGS, &regs);
    if (ret < 0)
        return error_set(err, ret, "KVM_GET_REGS of vCPU %u", vcpu->index);
    ret = kvm_call(vcpu->fd, KVM_GET_SREGS, &sregs);
    if (ret < 0)
        return error_set(err, ret, "KVM_GET_SREGS of vCPU %u", vcpu->index);
    *registers = (kvmshim_registers){
        .rax = regs.rax,
        .rbx = regs.rbx,
        .rcx = regs.rcx,
        .rdx = regs.rdx,
        .rsi = regs.rsi,
        .rdi = regs.rdi,
        .rsp = regs.rsp,
        .rbp = regs.rbp,
        .r8 = regs.r8,
        .r9 = regs.r9,
        .r10 = regs.r10,
        .r11 = regs.r11,
        .r12 = regs.r12,
        .r13 = regs.r13,
        .r14 = regs.r14,
        .r15 = regs.r15,
        .rip = regs.rip,
        .rflags = regs.rflags,
        .cr0 = sregs.cr0,
        .cr2 = sregs.cr2,
        .cr3 = sregs.cr3,
        .cr4 = sregs.cr4,
        .efer = sregs.efer,
        .cs = sregs.cs.selector,
        .ss = sregs.ss.selector,
    };
    return 0;
}

int kvmshim_vcpu_registers(kvmshim_vm *vm, uint32_t index, kvmshim_registers *regs,
                           kvmshim_error *err)
{
    struct vcpu *vcpu;
    int ret = vcpu_get_stopped(vm, index, &vcpu, err);

    if (ret < 0)
        return ret;
    return vcpu_get_registers(vcpu, regs, err);
}

int kvmshim_vcpu_counters(kvmshim_vm *vm, uint32_t index, kvmshim_counters *counters,
                          kvmshim_error *err)
{
    const struct vcpu *vcpu = vcpu_get(vm, index, err);
    const struct vcpu_counters *own;

    if (vcpu == NULL)
        return -EINVAL;
    own = &vcpu->counters;
    for (uint32_t i = 0; i < KVMSHIM_EXIT_KINDS; i++)
        counters->exits[i] = atomic_load_explicit(&own->exits[i], memory_order_relaxed);
    counters->unclaimed_io =
        atomic_load_explicit(&own->unclaimed[KVMSHIM_SPACE_PIO], memory_order_relaxed);
    counters->unclaimed_mmio =
        atomic_load_explicit(&own->unclaimed[KVMSHIM_SPACE_MMIO], memory_order_relaxed);
    counters->first_run_ns = atomic_load_explicit(&own->first_run_ns, memory_order_relaxed);
    counters->cpu_ns = control_cpu_ns(&vm->control, vcpu);
    return 0;
}
