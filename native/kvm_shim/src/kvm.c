/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "error.h"

_Static_assert(KVM_API_VERSION == 12, "the only stable version of the KVM API");
_Static_assert(sizeof(struct kvm_cpuid_entry2) == 40, "layout of KVM_GET_SUPPORTED_CPUID");

struct required_capability {
    unsigned long number;
    const char *name;
};

static const struct required_capability required[] = {
    {KVM_CAP_IRQCHIP, "IRQCHIP"},
    {KVM_CAP_USER_MEMORY, "USER_MEMORY"},
    {KVM_CAP_SET_TSS_ADDR, "SET_TSS_ADDR"},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, "SET_IDENTITY_MAP_ADDR"},
    {KVM_CAP_EXT_CPUID, "EXT_CPUID"},
    {KVM_CAP_IRQ_ROUTING, "IRQ_ROUTING"},
    {KVM_CAP_IRQFD, "IRQFD"},
    {KVM_CAP_IOEVENTFD, "IOEVENTFD"},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, "IOEVENTFD_ANY_LENGTH"},
    {KVM_CAP_USER_NMI, "USER_NMI"},
    {KVM_CAP_MP_STATE, "MP_STATE"},
    {KVM_CAP_VCPU_EVENTS, "VCPU_EVENTS"},
    {KVM_CAP_DEBUGREGS, "DEBUGREGS"},
    {KVM_CAP_XSAVE, "XSAVE"},
    {KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK"},
    {KVM_CAP_TSC_DEADLINE_TIMER, "TSC_DEADLINE_TIMER"},
    {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT"},
};

int kvm_call(int fd, unsigned long request, void *argument)
{
    int result;

    do {
        result = ioctl(fd, request, argument);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

int kvm_call_value(int fd, unsigned long request, unsigned long value)
{
    int result;

    do {
        result = ioctl(fd, request, value);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

uint32_t kvm_capability(int fd, unsigned long capability)
{
    int result = kvm_call_value(fd, KVM_CHECK_EXTENSION, capability);

    return result < 0 ? 0 : (uint32_t)result;
}

static int check_capabilities(int fd, const char *device, kvmshim_error *err)
{
    char missing[160] = "";
    size_t used = 0;

    for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
        int written;

        if (kvm_capability(fd, required[i].number) != 0)
            continue;
        written = snprintf(missing + used, sizeof(missing) - used, " %s", required[i].name);
        if (written < 0 || (size_t)written >= sizeof(missing) - used)
            break;
        used += (size_t)written;
    }
    if (used != 0)
        return error_set(err, -EOPNOTSUPP, "%s lacks the KVM capabilities%s", device, missing);
    return 0;
}

int kvm_open(const char *device, kvmshim_error *err)
{
    int version;
    int ret;
    int fd;

    fd = open(device, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, -errno, "open %s", device);
    version = kvm_call_value(fd, KVM_GET_API_VERSION, 0);
    if (version < 0) {
        ret = error_set(err, version, "%s is not a KVM device (KVM_GET_API_VERSION)", device);
        goto fail;
    }
    if (version != KVM_API_VERSION) {
        ret = error_set(err, -EOPNOTSUPP, "%s speaks KVM API version %d, not %d", device, version,
                        KVM_API_VERSION);
        goto fail;
    }
    ret = check_capabilities(fd, device, err);
    if (ret < 0)
        goto fail;
    return fd;

fail:
    close(fd);
    return ret;
}

int kvmshim_host_probe(const char *device, kvmshim_host *host, kvmshim_error *err)
{
    int fd = kvm_open(device, err);

    if (fd < 0)
        return fd;
    *host = (kvmshim_host){
        .api_version = KVM_API_VERSION,
        .recommended_vcpus = kvm_capability(fd, KVM_CAP_NR_VCPUS),
        .max_vcpus = kvm_capability(fd, KVM_CAP_MAX_VCPUS),
        .max_vcpu_id = kvm_capability(fd, KVM_CAP_MAX_VCPU_ID),
        .memory_slots = kvm_capability(fd, KVM_CAP_NR_MEMSLOTS),
    };
    close(fd);
    return 0;
}

int kvmshim_host_cpuid(const char *device, kvmshim_cpuid_entry *entries, uint32_t capacity,
                       uint32_t *count, kvmshim_error *err)
{
    struct kvm_cpuid2 *cpuid = NULL;
    uint32_t room = 128; /* hosts of today have 40 to 70; KVM says -E2BIG when too few */
    int ret;
    int fd;

    fd = kvm_open(device, err);
    if (fd < 0)
        return fd;
    do {
        free(cpuid);
        room *= 2;
        cpuid = calloc(1, sizeof(*cpuid) + room * sizeof(cpuid->entries[0]));
        if (cpuid == NULL) {
            ret = error_set(err, -ENOMEM, "allocate %u CPUID entries", room);
            goto out;
        }
        cpuid->nent = room;
        ret = kvm_call(fd, KVM_GET_SUPPORTED_CPUID, cpuid);
    } while (ret == -E2BIG && room < 4096);
    if (ret < 0) {
        error_set(err, ret, "KVM_GET_SUPPORTED_CPUID");
        goto out;
    }
    *count = cpuid->nent;
    if (cpuid->nent > capacity) {
        ret = error_set(err, -E2BIG, "%u CPUID entries, room for %u", cpuid->nent, capacity);
        goto out;
    }
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        const struct kvm_cpuid_entry2 *from = &cpuid->entries[i];

        entries[i] = (kvmshim_cpuid_entry){
            .function = from->function,
            .index = from->index,
            .flags = from->flags,
            .eax = from->eax,
            .ebx = from->ebx,
            .ecx = from->ecx,
            .edx = from->edx,
        };
    }
    ret = 0;
out:
    free(cpuid);
    close(fd);
    return ret;
}
