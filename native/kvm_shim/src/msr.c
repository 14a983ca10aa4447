/* SPDX-License-Identifier: Apache-2.0 */
#include "msr.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "kvm.h"
#include "vcpu.h"
#include "vm.h"

_Static_assert(sizeof(struct kvm_msr_entry) == 16, "KVM_SET_MSRS, and the saved format");

/* KVM takes at most this many in one call (MAX_IO_MSRS). */
#define BATCH 256u

#define MSR_SYSENTER_CS 0x174u
#define MSR_SYSENTER_ESP 0x175u
#define MSR_SYSENTER_EIP 0x176u
#define MSR_MISC_ENABLE 0x1a0u
#define MSR_MTRR_DEF_TYPE 0x2ffu
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SYSCALL_MASK 0xc0000084u
#define MSR_KERNEL_GS_BASE 0xc0000102u

#define MISC_ENABLE_FAST_STRINGS UINT64_C(1)
#define MTRR_ENABLE_WRITE_BACK UINT64_C(0x806)

/*
 * Write-back as the default memory type and fast strings are a firmware's work (Intel SDM
 * volume 3, 12.11.2.1); the rest is what a reset leaves. The TSC is not here: KVM starts
 * it at 0 in step on all vCPUs, and one write for each, a while apart, would undo that.
 */
static const struct kvm_msr_entry defaults[] = {
    {.index = MSR_SYSENTER_CS},
    {.index = MSR_SYSENTER_ESP},
    {.index = MSR_SYSENTER_EIP},
    {.index = MSR_STAR},
    {.index = MSR_LSTAR},
    {.index = MSR_CSTAR},
    {.index = MSR_SYSCALL_MASK},
    {.index = MSR_KERNEL_GS_BASE},
    {.index = MSR_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRINGS},
    {.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE_WRITE_BACK},
};

struct msr_batch {
    struct kvm_msrs header;
    uint8_t entries[BATCH * sizeof(struct kvm_msr_entry)];
};

_Static_assert(offsetof(struct msr_batch, entries) == sizeof(struct kvm_msrs),
               "the entries follow their count");

int msr_write(int vcpu_fd, const struct kvm_msr_entry *entries, uint32_t count,
              kvmshim_error *err)
{
    struct msr_batch batch;

    while (count != 0) {
        uint32_t wanted = count < BATCH ? count : BATCH;
        int done;

        batch.header = (struct kvm_msrs){.nmsrs = wanted};
        memcpy(batch.entries, entries, wanted * sizeof(*entries));
        done = kvm_call(vcpu_fd, KVM_SET_MSRS, &batch);
        if (done < 0)
            return error_set(err, done, "KVM_SET_MSRS");
        /* It stops at the first MSR that it refuses, and tells how many came before. */
        if ((uint32_t)done < wanted)
            return error_set(err, -EINVAL, "KVM refuses MSR 0x%x = 0x%" PRIx64,
                             entries[done].index, (uint64_t)entries[done].data);
        entries += wanted;
        count -= wanted;
    }
    return 0;
}

int msr_set_defaults(int vcpu_fd, kvmshim_error *err)
{
    return msr_write(vcpu_fd, defaults, sizeof(defaults) / sizeof(defaults[0]), err);
}

int kvmshim_vcpu_set_msrs(kvmshim_vm *vm, uint32_t index, const kvmshim_msr *msrs, uint32_t count,
                          kvmshim_error *err)
{
    struct kvm_msr_entry *entries;
    struct vcpu *vcpu;
    int ret;

    ret = vcpu_get_stopped(vm, index, &vcpu, err);
    if (ret < 0 || count == 0)
        return ret;
    if (count > MSRS_MAX)
        return error_set(err, -E2BIG, "%u MSRs", count);
    entries = calloc(count, sizeof(*entries));
    if (entries == NULL)
        return error_set(err, -ENOMEM, "allocate %u MSRs", count);
    for (uint32_t i = 0; i < count; i++)
        entries[i] = (struct kvm_msr_entry){.index = msrs[i].index, .data = msrs[i].data};
    ret = msr_write(vcpu->fd, entries, count, err);
    free(entries);
    return ret;
}

static struct kvm_msr_list *list_indices(int kvm_fd, kvmshim_error *err)
{
    struct kvm_msr_list *list;
    int ret;

    list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(list->indices[0]));
    if (list == NULL) {
        error_set(err, -ENOMEM, "allocate the list of MSRs");
        return NULL;
    }
    list->nmsrs = MSRS_MAX;
    ret = kvm_call(kvm_fd, KVM_GET_MSR_INDEX_LIST, list);
    if (ret < 0) {
        error_set(err, ret, "KVM_GET_MSR_INDEX_LIST");
        free(list);
        return NULL;
    }
    return list;
}

int msr_read_all(int kvm_fd, int vcpu_fd, struct kvm_msr_entry *entries, kvmshim_error *err)
{
    struct kvm_msr_list *list = list_indices(kvm_fd, err);
    struct msr_batch batch;
    uint32_t next = 0;
    uint32_t count = 0;

    if (list == NULL)
        return -ENOMEM;
    while (next < list->nmsrs) {
        uint32_t wanted = list->nmsrs - next < BATCH ? list->nmsrs - next : BATCH;
        int done;

        batch.header = (struct kvm_msrs){.nmsrs = wanted};
        for (uint32_t i = 0; i < wanted; i++) {
            const struct kvm_msr_entry entry = {.index = list->indices[next + i]};

            memcpy(batch.entries + i * sizeof(entry), &entry, sizeof(entry));
        }
        done = kvm_call(vcpu_fd, KVM_GET_MSRS, &batch);
        if (done < 0) {
            free(list);
            return error_set(err, done, "KVM_GET_MSRS");
        }
        memcpy(entries + count, batch.entries, (uint32_t)done * sizeof(*entries));
        count += (uint32_t)done;
        next += (uint32_t)done;
        /* The list is the host's; this guest's CPUID may not have the one it stopped at. */
        if ((uint32_t)done < wanted)
            next++;
    }
    free(list);
    return (int)count;
}
