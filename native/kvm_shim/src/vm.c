/* SPDX-License-Identifier: Apache-2.0 */
#include "vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <unistd.h>

#include "device_list.h"
#include "error.h"
#include "kvm.h"

/* Three pages and one page that KVM needs for real mode on Intel CPUs without unrestricted
 * guest (Documentation/virt/kvm/api.rst): inside the 32-bit gap, below the firmware area. */
#define TSS_ADDRESS 0xfffbd000ul
#define IDENTITY_MAP_ADDRESS UINT64_C(0xfffbc000)

#define XSAVE_SIZE 4096u

/* What KVM wants to know before the first vCPU and, the irqchip, before it is used. */
static int set_up_kvm(kvmshim_vm *vm, kvmshim_error *err)
{
    uint64_t identity_map = IDENTITY_MAP_ADDRESS;
    uint32_t xsave_size;
    int ret;

    ret = kvm_call_value(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (ret < 0)
        return error_set(err, ret, "KVM_GET_VCPU_MMAP_SIZE");
    vm->run_size = (uint32_t)ret;
    ret = kvm_call_value(vm->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDRESS);
    if (ret < 0)
        return error_set(err, ret, "KVM_SET_TSS_ADDR");
    ret = kvm_call(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
    if (ret < 0)
        return error_set(err, ret, "KVM_SET_IDENTITY_MAP_ADDR");
    /* No KVM_CREATE_PIT2: the guest's ACPI is hardware-reduced, and a PIT costs a thread. */
    ret = kvm_call_value(vm->vm_fd, KVM_CREATE_IRQCHIP, 0);
    if (ret < 0)
        return error_set(err, ret, "KVM_CREATE_IRQCHIP");
    xsave_size = kvm_capability(vm->vm_fd, KVM_CAP_XSAVE2);
    vm->has_xsave2 = xsave_size >= XSAVE_SIZE;
    vm->xsave_size = vm->has_xsave2 ? xsave_size : XSAVE_SIZE;
    vm->has_sregs2 = kvm_capability(vm->vm_fd, KVM_CAP_SREGS2) != 0;
    vm->nested_size = kvm_capability(vm->vm_fd, KVM_CAP_NESTED_STATE);
    return 0;
}

static int set_up_parts(kvmshim_vm *vm, kvmshim_error *err)
{
    int ret;

    ret = event_init(&vm->events, err);
    if (ret < 0)
        return ret;
    ret = control_init(&vm->control, err);
    if (ret < 0)
        goto no_control;
    ret = bus_init(&vm->bus);
    if (ret < 0) {
        error_set(err, ret, "bus locks");
        goto no_bus;
    }
    ret = irq_init(&vm->irq);
    if (ret < 0) {
        error_set(err, ret, "GSI routes lock");
        goto no_irq;
    }
    return 0;

no_irq:
    bus_free(&vm->bus);
no_bus:
    control_free(&vm->control);
no_control:
    event_free(&vm->events);
    return ret;
}

int kvmshim_vm_create(const char *device, kvmshim_vm **result, kvmshim_error *err)
{
    kvmshim_vm *vm;
    int ret;

    vm = calloc(1, sizeof(*vm));
    if (vm == NULL)
        return error_set(err, -ENOMEM, "allocate a VM");
    vm->kvm_fd = kvm_open(device, err);
    if (vm->kvm_fd < 0) {
        ret = vm->kvm_fd;
        goto no_kvm;
    }
    vm->vm_fd = kvm_call_value(vm->kvm_fd, KVM_CREATE_VM, 0);
    if (vm->vm_fd < 0) {
        ret = error_set(err, vm->vm_fd, "KVM_CREATE_VM");
        goto no_vm;
    }
    ret = set_up_kvm(vm, err);
    if (ret < 0)
        goto no_parts;
    ret = set_up_parts(vm, err);
    if (ret < 0)
        goto no_parts;
    *result = vm;
    return 0;

no_parts:
    close(vm->vm_fd);
no_vm:
    close(vm->kvm_fd);
no_kvm:
    free(vm);
    return ret;
}

void kvmshim_vm_destroy(kvmshim_vm *vm)
{
    if (vm == NULL)
        return;
    control_stop(vm);
    device_destroy_all(vm);
    for (uint32_t i = 0; i < atomic_load(&vm->vcpu_count); i++)
        vcpu_free(vm->vcpus[i]);
    irq_free(&vm->irq);
    bus_free(&vm->bus);
    control_free(&vm->control);
    event_free(&vm->events);
    /* The VM before its memory: KVM still maps the RAM until then. */
    close(vm->vm_fd);
    memory_free(&vm->memory);
    close(vm->kvm_fd);
    free(vm);
}
