/* SPDX-License-Identifier: Apache-2.0 */
#include "irq.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "error.h"
#include "kvm.h"
#include "vm.h"

#define PIC_PINS 16u
#define LEGACY_ROUTES (IRQ_PINS + PIC_PINS)

_Static_assert(sizeof(struct kvm_irq_routing_entry) == 48, "KVM_SET_GSI_ROUTING");
_Static_assert(sizeof(struct kvm_irqfd) == 32, "KVM_IRQFD");

int irq_init(struct irq_routes *routes)
{
    routes->next = IRQ_PINS;
    return -pthread_mutex_init(&routes->lock, NULL);
}

void irq_free(struct irq_routes *routes)
{
    free(routes->msi);
    pthread_mutex_destroy(&routes->lock);
}

static struct kvm_irq_routing_entry pin_entry(uint32_t gsi, uint32_t chip, uint32_t pin)
{
    return (struct kvm_irq_routing_entry){
        .gsi = gsi,
        .type = KVM_IRQ_ROUTING_IRQCHIP,
        .u.irqchip = {.irqchip = chip, .pin = pin},
    };
}

/*
 * KVM_SET_GSI_ROUTING replaces the whole table, so the legacy pins are listed each time,
 * as KVM's own default has them: GSI n is IOAPIC pin n, and the first 16 are also the two
 * PICs' pins. (No 0-to-2 remap: the MADT has no override for it and there is no PIT.)
 */
static uint32_t legacy_entries(struct kvm_irq_routing_entry *entries)
{
    uint32_t count = 0;

    for (uint32_t gsi = 0; gsi < IRQ_PINS; gsi++) {
        entries[count++] = pin_entry(gsi, KVM_IRQCHIP_IOAPIC, gsi);
        if (gsi < PIC_PINS / 2)
            entries[count++] = pin_entry(gsi, KVM_IRQCHIP_PIC_MASTER, gsi);
        else if (gsi < PIC_PINS)
            entries[count++] = pin_entry(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - PIC_PINS / 2);
    }
    return count;
}

static int set_routing(kvmshim_vm *vm, const struct msi_route *msi, uint32_t count,
                       kvmshim_error *err)
{
    struct kvm_irq_routing *table;
    uint32_t at;
    int ret;

    table = calloc(1, sizeof(*table) + (LEGACY_ROUTES + count) * sizeof(table->entries[0]));
    if (table == NULL)
        return error_set(err, -ENOMEM, "allocate %u GSI routes", count);
    at = legacy_entries(table->entries);
    for (uint32_t i = 0; i < count; i++) {
        table->entries[at++] = (struct kvm_irq_routing_entry){
            .gsi = msi[i].gsi,
            .type = KVM_IRQ_ROUTING_MSI,
            .u.msi =
                {
                    .address_lo = (uint32_t)msi[i].address,
                    .address_hi = (uint32_t)(msi[i].address >> 32),
                    .data = msi[i].data,
                },
        };
    }
    table->nr = at;
    ret = kvm_call(vm->vm_fd, KVM_SET_GSI_ROUTING, table);
    free(table);
    if (ret < 0)
        return error_set(err, ret, "KVM_SET_GSI_ROUTING with %u MSI routes", count);
    return 0;
}

/* Install `routes` (which the VM then owns) in KVM and in place of the current ones. The
 * lock is held; on failure nothing changed and `routes` is freed. */
static int install(kvmshim_vm *vm, struct msi_route *routes, uint32_t count, kvmshim_error *err)
{
    int ret = set_routing(vm, routes, count, err);

    if (ret < 0) {
        free(routes);
        return ret;
    }
    free(vm->irq.msi);
    vm->irq.msi = routes;
    vm->irq.count = count;
    return 0;
}

/* Where `gsi` is, or would be inserted. */
static uint32_t position(const struct irq_routes *routes, uint32_t gsi)
{
    uint32_t at = 0;

    while (at < routes->count && routes->msi[at].gsi < gsi)
        at++;
    return at;
}

static struct msi_route *allocate(uint32_t count)
{
    return calloc(count == 0 ? 1 : count, sizeof(struct msi_route));
}

static int check_gsi(uint32_t gsi, kvmshim_error *err)
{
    if (gsi < IRQ_PINS || gsi > IRQ_GSI_MAX)
        return error_set(err, -EINVAL, "GSI %u cannot have an MSI route", gsi);
    return 0;
}

int kvmshim_irq_route_msi(kvmshim_vm *vm, uint32_t gsi, uint64_t address, uint32_t data,
                          kvmshim_error *err)
{
    const struct msi_route route = {.gsi = gsi, .data = data, .address = address};
    struct irq_routes *routes = &vm->irq;
    struct msi_route *changed;
    uint32_t at, present;
    int ret = check_gsi(gsi, err);

    if (ret < 0)
        return ret;
    pthread_mutex_lock(&routes->lock);
    at = position(routes, gsi);
    present = at < routes->count && routes->msi[at].gsi == gsi;
    /* Guests rewrite the same MSI often, and the call below waits for an RCU grace period. */
    if (present && routes->msi[at].address == address && routes->msi[at].data == data)
        goto out;
    changed = allocate(routes->count + 1);
    if (changed == NULL) {
        ret = error_set(err, -ENOMEM, "allocate an MSI route");
        goto out;
    }
    if (routes->count != 0) {
        memcpy(changed, routes->msi, at * sizeof(*changed));
        memcpy(changed + at + 1, routes->msi + at + present,
               (routes->count - at - present) * sizeof(*changed));
    }
    changed[at] = route;
    ret = install(vm, changed, routes->count + 1 - present, err);
out:
    pthread_mutex_unlock(&routes->lock);
    return ret;
}

int kvmshim_irq_unroute(kvmshim_vm *vm, uint32_t gsi, kvmshim_error *err)
{
    struct irq_routes *routes = &vm->irq;
    struct msi_route *changed;
    uint32_t at;
    int ret = check_gsi(gsi, err);

    if (ret < 0)
        return ret;
    pthread_mutex_lock(&routes->lock);
    at = position(routes, gsi);
    if (at == routes->count || routes->msi[at].gsi != gsi) {
        ret = error_set(err, -ENOENT, "GSI %u has no MSI route", gsi);
        goto out;
    }
    changed = allocate(routes->count - 1);
    if (changed == NULL) {
        ret = error_set(err, -ENOMEM, "allocate MSI routes");
        goto out;
    }
    memcpy(changed, routes->msi, at * sizeof(*changed));
    memcpy(changed + at, routes->msi + at + 1, (routes->count - at - 1) * sizeof(*changed));
    ret = install(vm, changed, routes->count - 1, err);
out:
    pthread_mutex_unlock(&routes->lock);
    return ret;
}

int irq_allocate(kvmshim_vm *vm, uint32_t count, uint32_t *first, kvmshim_error *err)
{
    struct irq_routes *routes = &vm->irq;
    int ret = 0;

    pthread_mutex_lock(&routes->lock);
    if (count > IRQ_GSI_MAX + 1 - routes->next) {
        ret = error_set(err, -ENOSPC, "%u more GSIs for MSIs", count);
    } else {
        *first = routes->next;
        routes->next += count;
    }
    pthread_mutex_unlock(&routes->lock);
    return ret;
}

int irq_replace(kvmshim_vm *vm, const struct msi_route *msi, uint32_t count, kvmshim_error *err)
{
    struct msi_route *changed;
    int ret;

    for (uint32_t i = 0; i < count; i++) {
        ret = check_gsi(msi[i].gsi, err);
        if (ret < 0)
            return ret;
        if (i > 0 && msi[i].gsi <= msi[i - 1].gsi)
            return error_set(err, -EINVAL, "GSI %u is out of order", msi[i].gsi);
    }
    changed = allocate(count);
    if (changed == NULL)
        return error_set(err, -ENOMEM, "allocate MSI routes");
    if (count != 0)
        memcpy(changed, msi, count * sizeof(*changed));
    pthread_mutex_lock(&vm->irq.lock);
    ret = install(vm, changed, count, err);
    pthread_mutex_unlock(&vm->irq.lock);
    return ret;
}

int kvmshim_irq_line(kvmshim_vm *vm, uint32_t gsi, int level, kvmshim_error *err)
{
    struct kvm_irq_level line = {.irq = gsi, .level = level != 0};
    int ret;

    if (gsi >= IRQ_PINS)
        return error_set(err, -EINVAL, "GSI %u is no interrupt pin", gsi);
    ret = kvm_call(vm->vm_fd, KVM_IRQ_LINE, &line);
    if (ret < 0)
        return error_set(err, ret, "KVM_IRQ_LINE of GSI %u", gsi);
    return 0;
}

void machine_irq(kvmshim_vm *vm, uint32_t gsi, int level)
{
    kvmshim_irq_line(vm, gsi, level, NULL);
}

static int set_irqfd(kvmshim_vm *vm, int eventfd, uint32_t gsi, uint32_t flags,
                     kvmshim_error *err)
{
    struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd, .gsi = gsi, .flags = flags};
    int ret;

    if (eventfd < 0)
        return error_set(err, -EBADF, "irqfd of GSI %u", gsi);
    if (gsi > IRQ_GSI_MAX)
        return error_set(err, -EINVAL, "irqfd of GSI %u", gsi);
    ret = kvm_call(vm->vm_fd, KVM_IRQFD, &irqfd);
    if (ret < 0)
        return error_set(err, ret, "KVM_IRQFD of fd %d, GSI %u", eventfd, gsi);
    return 0;
}

/* KVM holds the eventfd itself, so the caller may close its descriptor at any time. */
int kvmshim_irqfd_add(kvmshim_vm *vm, int eventfd, uint32_t gsi, kvmshim_error *err)
{
    return set_irqfd(vm, eventfd, gsi, 0, err);
}

int kvmshim_irqfd_remove(kvmshim_vm *vm, int eventfd, uint32_t gsi, kvmshim_error *err)
{
    return set_irqfd(vm, eventfd, gsi, KVM_IRQFD_FLAG_DEASSIGN, err);
}
