/* SPDX-License-Identifier: Apache-2.0 */
/* Saving and loading what KVM keeps for the VM as a whole: irqchip, GSI routes, kvmclock. */
#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "blob.h"
#include "control.h"
#include "error.h"
#include "irq.h"
#include "kvm.h"
#include "vm.h"

#define STATE_KIND "vm"
#define STATE_VERSION 1u
#define CHIPS 3u

/* Followed by the MSI routes. */
struct vm_state {
    struct kvm_irqchip chips[CHIPS]; /* master PIC, slave PIC, IOAPIC */
    struct kvm_clock_data clock;
    uint32_t route_count;
    uint32_t reserved;
};

_Static_assert(KVM_IRQCHIP_PIC_MASTER == 0 && KVM_IRQCHIP_IOAPIC == CHIPS - 1, "chip numbers");
_Static_assert(sizeof(struct kvm_irqchip) == 520, "saved format");
_Static_assert(sizeof(struct kvm_clock_data) == 48, "saved format");
_Static_assert(sizeof(struct msi_route) == 16, "saved format");
_Static_assert(sizeof(struct vm_state) == 1616, "saved format");

static int get_chips_and_clock(const kvmshim_vm *vm, struct vm_state *state, kvmshim_error *err)
{
    int ret;

    for (uint32_t i = 0; i < CHIPS; i++) {
        state->chips[i].chip_id = i;
        ret = kvm_call(vm->vm_fd, KVM_GET_IRQCHIP, &state->chips[i]);
        if (ret < 0)
            return error_set(err, ret, "KVM_GET_IRQCHIP %u", i);
    }
    ret = kvm_call(vm->vm_fd, KVM_GET_CLOCK, &state->clock);
    if (ret < 0)
        return error_set(err, ret, "KVM_GET_CLOCK");
    return 0;
}

static int set_chips_and_clock(const kvmshim_vm *vm, struct vm_state *state, kvmshim_error *err)
{
    struct kvm_clock_data clock = {.clock = state->clock.clock};
    int ret;

    for (uint32_t i = 0; i < CHIPS; i++) {
        ret = kvm_call(vm->vm_fd, KVM_SET_IRQCHIP, &state->chips[i]);
        if (ret < 0)
            return error_set(err, ret, "KVM_SET_IRQCHIP %u", i);
    }
    /* With the time of day of the save, KVM advances the clock by what has passed since, on
     * this host or another; the other flags only describe what was read. */
    if ((state->clock.flags & KVM_CLOCK_REALTIME) != 0 &&
        (kvm_capability(vm->vm_fd, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME) != 0) {
        clock.flags = KVM_CLOCK_REALTIME;
        clock.realtime = state->clock.realtime;
    }
    ret = kvm_call(vm->vm_fd, KVM_SET_CLOCK, &clock);
    if (ret < 0)
        return error_set(err, ret, "KVM_SET_CLOCK");
    return 0;
}

static uint64_t payload_length(uint32_t routes)
{
    return sizeof(struct vm_state) + (uint64_t)routes * sizeof(struct msi_route);
}

int kvmshim_vm_save(kvmshim_vm *vm, void *data, uint64_t capacity, uint64_t *size,
                    kvmshim_error *err)
{
    struct vm_state state = {0};
    void *payload;
    int ret;

    ret = control_require_stopped(vm, err);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&vm->irq.lock);
    state.route_count = vm->irq.count;
    ret = blob_begin(data, capacity, payload_length(state.route_count), size, &payload, err);
    if (ret < 0 || payload == NULL)
        goto out;
    ret = get_chips_and_clock(vm, &state, err);
    if (ret < 0)
        goto out;
    memcpy(payload, &state, sizeof(state));
    if (state.route_count != 0)
        memcpy((uint8_t *)payload + sizeof(state), vm->irq.msi,
               state.route_count * sizeof(struct msi_route));
    blob_finish(data, STATE_KIND, STATE_VERSION, payload_length(state.route_count));
out:
    pthread_mutex_unlock(&vm->irq.lock);
    return ret;
}

static int parse(const uint8_t *payload, uint64_t length, struct vm_state *state,
                 kvmshim_error *err)
{
    if (length < sizeof(*state))
        return error_set(err, -EINVAL, "vm state of %" PRIu64 " bytes", length);
    memcpy(state, payload, sizeof(*state));
    for (uint32_t i = 0; i < CHIPS; i++) {
        if (state->chips[i].chip_id != i)
            return error_set(err, -EINVAL, "vm state has chip %u in place of %u",
                             state->chips[i].chip_id, i);
    }
    if (state->route_count > IRQ_GSI_MAX || length != payload_length(state->route_count))
        return error_set(err, -EINVAL, "vm state of %" PRIu64 " bytes with %u routes", length,
                         state->route_count);
    return 0;
}

int kvmshim_vm_load(kvmshim_vm *vm, const void *data, uint64_t size, kvmshim_error *err)
{
    struct vm_state before = {0};
    struct vm_state state;
    struct msi_route *routes;
    const void *payload;
    uint64_t length;
    int ret;

    ret = control_require_stopped(vm, err);
    if (ret < 0)
        return ret;
    ret = blob_open(data, size, STATE_KIND, STATE_VERSION, &payload, &length, err);
    if (ret < 0)
        return ret;
    ret = parse(payload, length, &state, err);
    if (ret < 0)
        return ret;
    ret = get_chips_and_clock(vm, &before, err);
    if (ret < 0)
        return ret;
    /* The blob may lie at any address, the routes want to be aligned. */
    routes = calloc(state.route_count + 1, sizeof(*routes));
    if (routes == NULL)
        return error_set(err, -ENOMEM, "allocate %u MSI routes", state.route_count);
    memcpy(routes, (const uint8_t *)payload + sizeof(state),
           state.route_count * sizeof(*routes));
    ret = set_chips_and_clock(vm, &state, err);
    /* The routes last: they are replaced as a whole or not at all. */
    if (ret == 0)
        ret = irq_replace(vm, routes, state.route_count, err);
    if (ret < 0)
        set_chips_and_clock(vm, &before, NULL);
    free(routes);
    return ret;
}
