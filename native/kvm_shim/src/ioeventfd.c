/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>

#include "error.h"
#include "kvm.h"
#include "vm.h"

_Static_assert(sizeof(struct kvm_ioeventfd) == 64, "KVM_IOEVENTFD");

/* Removal finds its doorbell by all of the same fields that it was added with. */
static int set_ioeventfd(kvmshim_vm *vm, int space, uint64_t address, uint32_t size, int match,
                         uint64_t value, int eventfd, uint32_t flags, kvmshim_error *err)
{
    struct kvm_ioeventfd doorbell = {
        .addr = address,
        .len = size,
        .fd = eventfd,
        .flags = flags,
        .datamatch = match ? value : 0,
    };
    int ret;

    if (space != KVMSHIM_SPACE_PIO && space != KVMSHIM_SPACE_MMIO)
        return error_set(err, -EINVAL, "ioeventfd on bus %d", space);
    if (space == KVMSHIM_SPACE_PIO)
        doorbell.flags |= KVM_IOEVENTFD_FLAG_PIO;
    if (match)
        doorbell.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
    ret = kvm_call(vm->vm_fd, KVM_IOEVENTFD, &doorbell);
    if (ret < 0)
        return error_set(err, ret, "KVM_IOEVENTFD of %u bytes on bus %d at 0x%" PRIx64, size,
                         space, address);
    return 0;
}

int kvmshim_ioeventfd_add(kvmshim_vm *vm, int space, uint64_t address, uint32_t size, int match,
                          uint64_t value, int eventfd, kvmshim_error *err)
{
    return set_ioeventfd(vm, space, address, size, match, value, eventfd, 0, err);
}

int kvmshim_ioeventfd_remove(kvmshim_vm *vm, int space, uint64_t address, uint32_t size,
                             int match, uint64_t value, int eventfd, kvmshim_error *err)
{
    return set_ioeventfd(vm, space, address, size, match, value, eventfd,
                         KVM_IOEVENTFD_FLAG_DEASSIGN, err);
}
