/* SPDX-License-Identifier: Apache-2.0 */
#include "pci_bar.h"

#include <errno.h>
#include <linux/pci_regs.h>

#include "error.h"
#include "lanes.h"

static uint64_t pci_bar_address(const struct pci_bar *bar)
{
    const uint8_t *bytes = bar->config->bytes + bar->reg;

    return ((uint64_t)lanes_get32(bytes + 4) << 32 | lanes_get32(bytes)) & ~(bar->size - 1);
}

int pci_bar_init(struct pci_bar *bar, uint64_t base, kvmshim_error *err)
{
    uint64_t mask = ~(bar->size - 1);

    if (base & ~mask)
        return error_set(err, -EINVAL, "BAR at 0x%llx is not aligned to its size, 0x%llx",
                         (unsigned long long)base, (unsigned long long)bar->size);
    pci_config_set(bar->config, bar->reg, 4, (uint32_t)base | PCI_BASE_ADDRESS_MEM_TYPE_64,
                   (uint32_t)mask);
    pci_config_set(bar->config, bar->reg + 4, 4, (uint32_t)(base >> 32), (uint32_t)(mask >> 32));
    bar->mapped = false;
    return 0;
}

void pci_bar_unmap(struct pci_bar *bar)
{
    if (!bar->mapped)
        return;
    if (bar->moved)
        bar->moved(bar->opaque, false);
    bus_remove(bar->vm, KVMSHIM_SPACE_MMIO, bar->base, NULL);
    bar->mapped = false;
}

int pci_bar_follow(struct pci_bar *bar, kvmshim_error *err)
{
    bool decodes = bar->config->bytes[PCI_COMMAND] & PCI_COMMAND_MEMORY;
    uint64_t base = pci_bar_address(bar);
    int rc;

    if (bar->mapped && decodes && base == bar->base)
        return 0;
    pci_bar_unmap(bar);
    if (!decodes)
        return 0;
    rc = bus_add(bar->vm, KVMSHIM_SPACE_MMIO, base, bar->size, bar->ops, bar->opaque, err);
    if (rc < 0)
        return rc;
    bar->base = base;
    bar->mapped = true;
    if (bar->moved)
        bar->moved(bar->opaque, true);
    return 0;
}
