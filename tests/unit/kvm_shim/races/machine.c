/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_list.h"
#include "kvm.h"
#include "races.h"

enum { RAM_SLOT_SIZE = 1 << 20, RAM_SLOTS = 2, VCPUS = 2 };

/* ---- a KVM that agrees to everything ----------------------------------------------- */

int kvm_call(int fd, unsigned long request, void *argument)
{
    (void)fd, (void)request, (void)argument;
    return 0;
}

int kvm_call_value(int fd, unsigned long request, unsigned long value)
{
    (void)fd, (void)request, (void)value;
    return 0;
}

int kvm_open(const char *device, kvmshim_error *err)
{
    (void)device, (void)err;
    return -1;
}

uint32_t kvm_capability(int fd, unsigned long capability)
{
    (void)fd, (void)capability;
    return 0;
}

/* ---- the machine ------------------------------------------------------------------- */

_Noreturn void give_up(const char *text)
{
    fprintf(stderr, "FAILED: %s\n", text);
    _exit(1);
}

kvmshim_vm *machine_create(void)
{
    kvmshim_vm *vm = calloc(1, sizeof(*vm));

    vm->kvm_fd = vm->vm_fd = -1;
    REQUIRE(event_init(&vm->events, NULL) == 0);
    REQUIRE(control_init(&vm->control, NULL) == 0);
    REQUIRE(bus_init(&vm->bus) == 0);
    REQUIRE(irq_init(&vm->irq) == 0);
    for (uint32_t i = 0; i < RAM_SLOTS; i++)
        vm->memory.slots[i] = (struct memory_slot){
            .gpa = (uint64_t)i * RAM_SLOT_SIZE,
            .size = RAM_SLOT_SIZE,
            .host = aligned_alloc(4096, RAM_SLOT_SIZE),
            .fd = -1,
        };
    atomic_store(&vm->memory.count, RAM_SLOTS);
    for (uint32_t i = 0; i < VCPUS; i++) {
        vm->vcpus[i] = aligned_alloc(_Alignof(struct vcpu), sizeof(struct vcpu));
        memset(vm->vcpus[i], 0, sizeof(struct vcpu));
        vm->vcpus[i]->vm = vm;
        vm->vcpus[i]->index = i;
    }
    atomic_store(&vm->vcpu_count, VCPUS);
    return vm;
}

void machine_destroy(kvmshim_vm *vm)
{
    device_destroy_all(vm);
    for (uint32_t i = 0; i < VCPUS; i++)
        free(vm->vcpus[i]);
    for (uint32_t i = 0; i < RAM_SLOTS; i++)
        free(vm->memory.slots[i].host);
    irq_free(&vm->irq);
    bus_free(&vm->bus);
    control_free(&vm->control);
    event_free(&vm->events);
    free(vm);
}

uint64_t machine_read(struct vcpu *vcpu, uint64_t address, uint32_t size)
{
    uint8_t data[8] = {0};
    uint64_t value;

    memset(data, 0xff, size);
    bus_dispatch(&vcpu->vm->bus, &vcpu->reader, KVMSHIM_SPACE_MMIO, address, false, data, size);
    memcpy(&value, data, sizeof(value));
    return value;
}

void machine_write(struct vcpu *vcpu, uint64_t address, uint64_t value, uint32_t size)
{
    bus_dispatch(&vcpu->vm->bus, &vcpu->reader, KVMSHIM_SPACE_MMIO, address, true,
                 (uint8_t *)&value, size);
}
