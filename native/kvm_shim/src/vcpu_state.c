/* SPDX-License-Identifier: Apache-2.0 */
/* Saving a vCPU's complete state, and loading it into another one with the same CPUID. */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "blob.h"
#include "error.h"
#include "kvm.h"
#include "msr.h"
#include "vcpu.h"
#include "vm.h"

#define STATE_KIND "vcpu"
#define STATE_VERSION 2u
#define MSR_FEATURE_CONTROL 0x3au
#define MSR_TSC_DEADLINE 0x6e0u

/* Followed by the XSAVE area, the state of the guest's own guest, and the MSRs. */
struct vcpu_state {
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_lapic_state lapic;
    struct kvm_vcpu_events events;
    struct kvm_mp_state mp_state;
    uint32_t tsc_khz; /* 0: this KVM cannot tell */
    uint32_t xsave_size;
    uint32_t nested_size; /* 0: this KVM nests nothing */
    uint32_t msr_count;
    uint32_t reserved;
};

_Static_assert(sizeof(struct kvm_sregs2) == 320, "saved format");
_Static_assert(sizeof(struct kvm_xcrs) == 392, "saved format");
_Static_assert(sizeof(struct kvm_debugregs) == 128, "saved format");
_Static_assert(sizeof(struct kvm_vcpu_events) == 64, "saved format");
_Static_assert(sizeof(struct kvm_mp_state) == 4, "saved format");
_Static_assert(sizeof(struct vcpu_state) == 2096, "saved format");
_Static_assert(sizeof(struct kvm_nested_state) == 128, "saved format");
/* A kernel without SREGS2 gives the same fields up to the PDPTRs' flag. */
_Static_assert(offsetof(struct kvm_sregs2, flags) == offsetof(struct kvm_sregs, interrupt_bitmap),
               "sregs is a prefix of sregs2");

struct snapshot {
    struct vcpu_state state;
    uint8_t *xsave;
    struct kvm_nested_state *nested;
    struct kvm_msr_entry *msrs;
};

static int snapshot_allocate(const kvmshim_vm *vm, struct snapshot *snapshot, kvmshim_error *err)
{
    memset(snapshot, 0, sizeof(*snapshot));
    snapshot->xsave = calloc(1, vm->xsave_size);
    snapshot->nested = calloc(1, sizeof(*snapshot->nested) + vm->nested_size);
    snapshot->msrs = calloc(MSRS_MAX, sizeof(*snapshot->msrs));
    if (snapshot->xsave == NULL || snapshot->nested == NULL || snapshot->msrs == NULL)
        return error_set(err, -ENOMEM, "allocate a vCPU state");
    return 0;
}

static void snapshot_free(struct snapshot *snapshot)
{
    free(snapshot->xsave);
    free(snapshot->nested);
    free(snapshot->msrs);
}

struct step {
    unsigned long request;
    const char *name;
    void *argument;
};

static int run_steps(const struct vcpu *vcpu, const struct step *steps, size_t count,
                     kvmshim_error *err)
{
    for (size_t i = 0; i < count; i++) {
        int ret = kvm_call(vcpu->fd, steps[i].request, steps[i].argument);

        if (ret < 0)
            return error_set(err, ret, "%s of vCPU %u", steps[i].name, vcpu->index);
    }
    return 0;
}

static int get_sregs(const struct vcpu *vcpu, struct kvm_sregs2 *sregs2, kvmshim_error *err)
{
    struct kvm_sregs sregs;
    const struct step new = {KVM_GET_SREGS2, "KVM_GET_SREGS2", sregs2};
    const struct step old = {KVM_GET_SREGS, "KVM_GET_SREGS", &sregs};
    int ret;

    if (vcpu->vm->has_sregs2)
        return run_steps(vcpu, &new, 1, err);
    ret = run_steps(vcpu, &old, 1, err);
    if (ret == 0)
        memcpy(sregs2, &sregs, offsetof(struct kvm_sregs2, flags));
    return ret;
}

static int set_sregs(const struct vcpu *vcpu, struct kvm_sregs2 *sregs2, kvmshim_error *err)
{
    struct kvm_sregs sregs = {0};
    const struct step new = {KVM_SET_SREGS2, "KVM_SET_SREGS2", sregs2};
    const struct step old = {KVM_SET_SREGS, "KVM_SET_SREGS", &sregs};

    if (vcpu->vm->has_sregs2)
        return run_steps(vcpu, &new, 1, err);
    memcpy(&sregs, sregs2, offsetof(struct kvm_sregs2, flags));
    return run_steps(vcpu, &old, 1, err);
}

static int get_nested(const struct vcpu *vcpu, struct snapshot *to, kvmshim_error *err)
{
    const struct step get = {KVM_GET_NESTED_STATE, "KVM_GET_NESTED_STATE", to->nested};
    int ret;

    to->state.nested_size = 0;
    if (vcpu->vm->nested_size == 0)
        return 0;
    to->nested->size = vcpu->vm->nested_size;
    ret = run_steps(vcpu, &get, 1, err);
    if (ret == 0)
        to->state.nested_size = to->nested->size;
    return ret;
}

/*
 * KVM takes the state of a nested guest only from a vCPU that may have one: with VMX that
 * is the feature control MSR's business, with SVM that of EFER, which sregs hold.
 */
static int set_nested(const struct vcpu *vcpu, const struct snapshot *from, kvmshim_error *err)
{
    const struct step set = {KVM_SET_NESTED_STATE, "KVM_SET_NESTED_STATE", from->nested};
    const struct kvm_msr_entry *msrs = from->msrs;

    if (from->state.nested_size == 0)
        return 0;
    for (uint32_t i = 0; i < from->state.msr_count; i++) {
        int ret = msrs[i].index == MSR_FEATURE_CONTROL ? msr_write(vcpu->fd, msrs + i, 1, err) : 0;

        if (ret < 0)
            return ret;
    }
    return run_steps(vcpu, &set, 1, err);
}

/*
 * mp_state comes first, because asking for it makes KVM act on a pending INIT or SIPI,
 * which changes registers and the LAPIC. Reading the LAPIC folds in the interrupts that
 * were posted to it. The events come last: they hold what the calls before may have made
 * pending.
 */
static int read_state(const struct vcpu *vcpu, struct snapshot *to, kvmshim_error *err)
{
    struct vcpu_state *state = &to->state;
    const struct step before[] = {
        {KVM_GET_MP_STATE, "KVM_GET_MP_STATE", &state->mp_state},
        {KVM_GET_LAPIC, "KVM_GET_LAPIC", &state->lapic},
        {KVM_GET_REGS, "KVM_GET_REGS", &state->regs},
        {KVM_GET_XCRS, "KVM_GET_XCRS", &state->xcrs},
        {KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS", &state->debugregs},
        {vcpu->vm->has_xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, "KVM_GET_XSAVE", to->xsave},
    };
    const struct step events = {KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS", &state->events};
    int ret;

    ret = run_steps(vcpu, before, sizeof(before) / sizeof(before[0]), err);
    if (ret < 0)
        return ret;
    ret = get_sregs(vcpu, &state->sregs, err);
    if (ret < 0)
        return ret;
    ret = get_nested(vcpu, to, err);
    if (ret < 0)
        return ret;
    ret = msr_read_all(vcpu->vm->kvm_fd, vcpu->fd, to->msrs, err);
    if (ret < 0)
        return ret;
    state->msr_count = (uint32_t)ret;
    ret = kvm_call_value(vcpu->fd, KVM_GET_TSC_KHZ, 0);
    state->tsc_khz = ret < 0 ? 0 : (uint32_t)ret;
    state->xsave_size = vcpu->vm->xsave_size;
    return run_steps(vcpu, &events, 1, err);
}

/* All MSRs but one, then that one: KVM drops a TSC deadline unless the LAPIC's timer is in
 * that mode, and arms it by the guest's TSC of that moment. */
static int write_msrs(const struct vcpu *vcpu, const struct snapshot *from, kvmshim_error *err)
{
    const struct kvm_msr_entry *msrs = from->msrs;
    uint32_t count = from->state.msr_count;
    uint32_t deadline = 0;
    int ret;

    while (deadline < count && msrs[deadline].index != MSR_TSC_DEADLINE)
        deadline++;
    ret = msr_write(vcpu->fd, msrs, deadline, err);
    if (ret < 0 || deadline == count)
        return ret;
    ret = msr_write(vcpu->fd, msrs + deadline + 1, count - deadline - 1, err);
    if (ret < 0)
        return ret;
    return msr_write(vcpu->fd, msrs + deadline, 1, err);
}

/* The frequency first: it scales every TSC value. A host of the same speed needs no scaling
 * and may not offer it. */
static int set_tsc_khz(const struct vcpu *vcpu, uint32_t khz, kvmshim_error *err)
{
    int ret;

    if (khz == 0 || kvm_call_value(vcpu->fd, KVM_GET_TSC_KHZ, 0) == (int)khz)
        return 0;
    ret = kvm_call_value(vcpu->fd, KVM_SET_TSC_KHZ, khz);
    if (ret < 0)
        return error_set(err, ret, "KVM_SET_TSC_KHZ %u of vCPU %u", khz, vcpu->index);
    return 0;
}

/*
 * sregs before the nested state (see there) and before the LAPIC: the APIC base says whether
 * it is on and in which mode its registers are laid out. xcrs before xsave: they enable the
 * components that it holds. The LAPIC before the MSRs, of which one is its timer. mp_state
 * after the LAPIC, which setting it would disturb otherwise, and the events last, so that
 * nothing set here can drop or replace what is pending.
 */
static int write_state(const struct vcpu *vcpu, struct snapshot *from, kvmshim_error *err)
{
    struct vcpu_state *state = &from->state;
    const struct step xcrs = {KVM_SET_XCRS, "KVM_SET_XCRS", &state->xcrs};
    const struct step registers[] = {
        {KVM_SET_REGS, "KVM_SET_REGS", &state->regs},
        {KVM_SET_XSAVE, "KVM_SET_XSAVE", from->xsave},
        {KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS", &state->debugregs},
        {KVM_SET_LAPIC, "KVM_SET_LAPIC", &state->lapic},
    };
    const struct step last[] = {
        {KVM_SET_MP_STATE, "KVM_SET_MP_STATE", &state->mp_state},
        {KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS", &state->events},
    };
    int ret;

    ret = set_tsc_khz(vcpu, state->tsc_khz, err);
    if (ret < 0)
        return ret;
    ret = set_sregs(vcpu, &state->sregs, err);
    if (ret < 0)
        return ret;
    ret = set_nested(vcpu, from, err);
    if (ret < 0)
        return ret;
    if (state->xcrs.nr_xcrs != 0) { /* none on a CPU without XSAVE, and none are taken */
        ret = run_steps(vcpu, &xcrs, 1, err);
        if (ret < 0)
            return ret;
    }
    ret = run_steps(vcpu, registers, sizeof(registers) / sizeof(registers[0]), err);
    if (ret < 0)
        return ret;
    ret = write_msrs(vcpu, from, err);
    if (ret < 0)
        return ret;
    return run_steps(vcpu, last, sizeof(last) / sizeof(last[0]), err);
}

static uint64_t payload_length(const struct vcpu_state *state)
{
    return sizeof(*state) + state->xsave_size + state->nested_size +
           (uint64_t)state->msr_count * sizeof(struct kvm_msr_entry);
}

int kvmshim_vcpu_save(kvmshim_vm *vm, uint32_t index, void *data, uint64_t capacity,
                      uint64_t *size, kvmshim_error *err)
{
    struct snapshot snapshot;
    struct vcpu *vcpu;
    void *payload;
    uint8_t *at;
    int ret;

    ret = vcpu_get_stopped(vm, index, &vcpu, err);
    if (ret < 0)
        return ret;
    ret = snapshot_allocate(vm, &snapshot, err);
    if (ret == 0)
        ret = read_state(vcpu, &snapshot, err);
    if (ret == 0)
        ret = blob_begin(data, capacity, payload_length(&snapshot.state), size, &payload, err);
    if (ret < 0 || payload == NULL)
        goto out;
    at = payload;
    memcpy(at, &snapshot.state, sizeof(snapshot.state));
    at += sizeof(snapshot.state);
    memcpy(at, snapshot.xsave, snapshot.state.xsave_size);
    at += snapshot.state.xsave_size;
    memcpy(at, snapshot.nested, snapshot.state.nested_size);
    at += snapshot.state.nested_size;
    memcpy(at, snapshot.msrs, snapshot.state.msr_count * sizeof(*snapshot.msrs));
    blob_finish(data, STATE_KIND, STATE_VERSION, payload_length(&snapshot.state));
out:
    snapshot_free(&snapshot);
    return ret;
}

static int parse(const kvmshim_vm *vm, const uint8_t *payload, uint64_t length,
                 struct snapshot *to, kvmshim_error *err)
{
    struct vcpu_state *state = &to->state;

    if (length < sizeof(*state))
        return error_set(err, -EINVAL, "vcpu state of %" PRIu64 " bytes", length);
    memcpy(state, payload, sizeof(*state));
    /* A smaller area is one of a host with fewer features; KVM takes the rest as initial. */
    if (state->xsave_size > vm->xsave_size || state->nested_size > vm->nested_size ||
        state->msr_count > MSRS_MAX)
        return error_set(err, -EINVAL,
                         "vcpu state with %u bytes of XSAVE, %u of a nested guest and %u MSRs",
                         state->xsave_size, state->nested_size, state->msr_count);
    if (length != payload_length(state))
        return error_set(err, -EINVAL, "vcpu state of %" PRIu64 " bytes, not %" PRIu64, length,
                         payload_length(state));
    payload += sizeof(*state);
    memcpy(to->xsave, payload, state->xsave_size);
    payload += state->xsave_size;
    memcpy(to->nested, payload, state->nested_size);
    if (state->nested_size != 0 && to->nested->size != state->nested_size)
        return error_set(err, -EINVAL, "vcpu state with %u bytes of a nested guest, not %u",
                         to->nested->size, state->nested_size);
    payload += state->nested_size;
    memcpy(to->msrs, payload, state->msr_count * sizeof(*to->msrs));
    return 0;
}

int kvmshim_vcpu_load(kvmshim_vm *vm, uint32_t index, const void *data, uint64_t size,
                      kvmshim_error *err)
{
    struct snapshot wanted = {0};
    struct snapshot before = {0};
    const void *payload;
    struct vcpu *vcpu;
    uint64_t length;
    int ret;

    ret = vcpu_get_stopped(vm, index, &vcpu, err);
    if (ret < 0)
        return ret;
    ret = blob_open(data, size, STATE_KIND, STATE_VERSION, &payload, &length, err);
    if (ret < 0)
        return ret;
    ret = snapshot_allocate(vm, &wanted, err);
    if (ret == 0)
        ret = parse(vm, payload, length, &wanted, err);
    if (ret == 0)
        ret = snapshot_allocate(vm, &before, err);
    if (ret == 0)
        ret = read_state(vcpu, &before, err);
    if (ret < 0)
        goto out;
    /* Only KVM can tell whether the values make sense; what it took before it refused one
     * is put back. */
    ret = write_state(vcpu, &wanted, err);
    if (ret < 0)
        write_state(vcpu, &before, NULL);
out:
    snapshot_free(&wanted);
    snapshot_free(&before);
    return ret;
}
