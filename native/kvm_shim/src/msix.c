/* SPDX-License-Identifier: Apache-2.0 */
#include "msix.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "error.h"
#include "irq.h"
#include "lanes.h"

static bool msix_pending(const struct msix_vector *vector)
{
    struct pollfd ready = {.fd = vector->fd, .events = POLLIN};

    return !vector->connected && poll(&ready, 1, 0) == 1;
}

/* Give the vector's eventfd to KVM, which delivers what is pending, or take it back. */
static int msix_connect(struct msix *msix, uint16_t number, kvmshim_error *err)
{
    struct msix_vector *vector = &msix->vectors[number];
    bool wanted =
        msix->enabled && !msix->function_masked && !vector->masked && !msix->loading;
    uint32_t gsi = msix->gsi + number;
    eventfd_t pending;
    int rc;

    if (!wanted) {
        if (vector->connected)
            kvmshim_irqfd_remove(msix->vm, vector->fd, gsi, NULL);
        vector->connected = false;
        return 0;
    }
    /* Again for one that is connected: the guest may change a message without masking it. */
    rc = kvmshim_irq_route_msi(msix->vm, gsi, vector->address, vector->data, err);
    if (rc < 0 || vector->connected)
        return rc;
    /* KVM has a worker deliver what it finds pending, and who knows when. What is written
     * once it has the eventfd is with the vCPU when the write returns. */
    if (eventfd_read(vector->fd, &pending) < 0)
        pending = 0;
    rc = kvmshim_irqfd_add(msix->vm, vector->fd, gsi, err);
    vector->connected = rc == 0;
    if (pending)
        eventfd_write(vector->fd, 1);
    return rc;
}

static int msix_connect_all(struct msix *msix, kvmshim_error *err)
{
    int first = 0;

    for (uint16_t i = 0; i < msix->count; i++) {
        int rc = msix_connect(msix, i, first == 0 ? err : NULL);

        if (first == 0)
            first = rc;
    }
    return first;
}

int msix_init(struct msix *msix, kvmshim_vm *vm, uint16_t count, struct pci_config *config,
              uint32_t capability, uint32_t table_offset, uint32_t pba_offset,
              kvmshim_error *err)
{
    int rc;

    if (count == 0 || count > MSIX_VECTORS_MAX)
        return error_set(err, -EINVAL, "%u MSI-X vectors", count);
    *msix = (struct msix){.vm = vm, .capability = capability};
    msix->vectors = calloc(count, sizeof(*msix->vectors));
    if (!msix->vectors)
        return error_set(err, -ENOMEM, "allocate %u MSI-X vectors", count);
    for (; msix->count < count; msix->count++) {
        struct msix_vector *vector = &msix->vectors[msix->count];

        vector->masked = true;
        vector->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (vector->fd < 0) {
            rc = error_set(err, -errno, "eventfd of an MSI-X vector");
            goto free;
        }
    }
    rc = irq_allocate(vm, count, &msix->gsi, err);
    if (rc < 0)
        goto free;
    pci_config_set(config, capability, 1, PCI_CAP_ID_MSIX, 0);
    pci_config_set(config, capability + PCI_MSIX_FLAGS, 2, count - 1u,
                   PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    pci_config_set(config, capability + PCI_MSIX_TABLE, 4, table_offset, 0); /* in BAR 0 */
    pci_config_set(config, capability + PCI_MSIX_PBA, 4, pba_offset, 0);
    return 0;

free:
    msix_free(msix);
    return rc;
}

void msix_free(struct msix *msix)
{
    msix->enabled = false;
    msix_connect_all(msix, NULL);
    for (uint16_t i = 0; i < msix->count; i++)
        close(msix->vectors[i].fd);
    free(msix->vectors);
    msix->vectors = NULL;
    msix->count = 0;
}

/* One of the four dwords of an entry. */
static uint32_t msix_dword(const struct msix_vector *vector, uint32_t offset)
{
    switch (offset) {
    case PCI_MSIX_ENTRY_LOWER_ADDR:
        return (uint32_t)vector->address;
    case PCI_MSIX_ENTRY_UPPER_ADDR:
        return (uint32_t)(vector->address >> 32);
    case PCI_MSIX_ENTRY_DATA:
        return vector->data;
    default:
        return vector->masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0;
    }
}

/* Only aligned accesses of one or two dwords mean something (PCI 3.0, 6.8.2). */
static bool msix_access_ok(const struct msix *msix, uint32_t offset, uint32_t size)
{
    return (size == 4 || size == 8) && offset % size == 0 &&
           offset / PCI_MSIX_ENTRY_SIZE < msix->count;
}

void msix_table_read(const struct msix *msix, uint32_t offset, uint8_t *data, uint32_t size)
{
    if (!msix_access_ok(msix, offset, size))
        return;
    for (uint32_t at = 0; at < size; at += 4)
        lanes_put32(data + at, msix_dword(&msix->vectors[offset / PCI_MSIX_ENTRY_SIZE],
                                          (offset + at) % PCI_MSIX_ENTRY_SIZE));
}

int msix_table_write(struct msix *msix, uint32_t offset, const uint8_t *data, uint32_t size,
                     kvmshim_error *err)
{
    struct msix_vector *vector;

    if (!msix_access_ok(msix, offset, size))
        return 0;
    vector = &msix->vectors[offset / PCI_MSIX_ENTRY_SIZE];
    for (uint32_t at = 0; at < size; at += 4) {
        uint32_t value = lanes_get32(data + at);

        switch ((offset + at) % PCI_MSIX_ENTRY_SIZE) {
        case PCI_MSIX_ENTRY_LOWER_ADDR:
            vector->address = (vector->address & ~UINT64_C(0xffffffff)) | (value & ~3u);
            break;
        case PCI_MSIX_ENTRY_UPPER_ADDR:
            vector->address = (vector->address & UINT32_MAX) | (uint64_t)value << 32;
            break;
        case PCI_MSIX_ENTRY_DATA:
            vector->data = value;
            break;
        default:
            vector->masked = value & PCI_MSIX_ENTRY_CTRL_MASKBIT;
        }
    }
    return msix_connect(msix, (uint16_t)(offset / PCI_MSIX_ENTRY_SIZE), err);
}

void msix_pba_read(const struct msix *msix, uint32_t offset, uint8_t *data, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        data[i] = 0;
        for (uint32_t bit = 0; bit < 8; bit++) {
            uint32_t number = (offset + i) * 8 + bit;

            if (number < msix->count && msix_pending(&msix->vectors[number]))
                data[i] |= (uint8_t)(1u << bit);
        }
    }
}

int msix_control_written(struct msix *msix, const struct pci_config *config, kvmshim_error *err)
{
    uint32_t high = config->bytes[msix->capability + PCI_MSIX_FLAGS + 1];
    bool enabled = high & PCI_MSIX_FLAGS_ENABLE >> 8;
    bool masked = high & PCI_MSIX_FLAGS_MASKALL >> 8;

    if (enabled == msix->enabled && masked == msix->function_masked)
        return 0;
    msix->enabled = enabled;
    msix->function_masked = masked;
    return msix_connect_all(msix, err);
}

int msix_fd(const struct msix *msix, uint16_t vector)
{
    return vector < msix->count ? msix->vectors[vector].fd : -1;
}

void msix_save(const struct msix *msix, struct msix_state *states)
{
    for (uint16_t i = 0; i < msix->count; i++)
        states[i] = (struct msix_state){
            .address = msix->vectors[i].address,
            .data = msix->vectors[i].data,
            .masked = msix->vectors[i].masked,
            .pending = msix_pending(&msix->vectors[i]),
        };
}

int msix_check(const struct msix *msix, const struct msix_state *states, kvmshim_error *err)
{
    for (uint16_t i = 0; i < msix->count; i++)
        if (states[i].masked > 1 || states[i].pending > 1 || states[i].reserved[0] ||
            states[i].reserved[1] || states[i].address & 3)
            return error_set(err, -EINVAL, "MSI-X vector %u is not one", i);
    return 0;
}

void msix_load(struct msix *msix, const struct msix_state *states,
               const struct pci_config *config)
{
    eventfd_t pending;

    msix->loading = true;
    msix_connect_all(msix, NULL);
    for (uint16_t i = 0; i < msix->count; i++) {
        struct msix_vector *vector = &msix->vectors[i];

        vector->address = states[i].address;
        vector->data = states[i].data;
        vector->masked = states[i].masked;
        eventfd_read(vector->fd, &pending);
        if (states[i].pending)
            eventfd_write(vector->fd, 1);
    }
    msix_control_written(msix, config, NULL);
}

int msix_resume(struct msix *msix, kvmshim_error *err)
{
    if (!msix->loading)
        return 0;
    msix->loading = false;
    return msix_connect_all(msix, err);
}
