/* SPDX-License-Identifier: Apache-2.0 */
#include "pci_config.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "error.h"

void pci_config_init(struct pci_config *config, const struct pci_identity *identity)
{
    memset(config, 0, sizeof(*config));
    pci_config_set(config, PCI_VENDOR_ID, 2, identity->vendor, 0);
    pci_config_set(config, PCI_DEVICE_ID, 2, identity->device, 0);
    pci_config_set(config, PCI_CLASS_REVISION, 4, identity->class_code << 8 | identity->revision,
                   0);
    pci_config_set(config, PCI_COMMAND, 2, 0,
                   PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
                       PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
    pci_config_set(config, PCI_CACHE_LINE_SIZE, 1, 0, 0xff);
    pci_config_set(config, PCI_INTERRUPT_LINE, 1, 0, 0xff); /* the guest's scratch register */
}

void pci_config_set(struct pci_config *config, uint32_t reg, uint32_t size, uint32_t value,
                    uint32_t writable)
{
    for (uint32_t i = 0; i < size; i++) {
        config->bytes[reg + i] = (uint8_t)(value >> 8 * i);
        config->writable[reg + i] = (uint8_t)(writable >> 8 * i);
    }
}

void pci_config_read(const struct pci_config *config, uint32_t reg, uint8_t *data, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        data[i] = reg + i < PCI_CONFIG_SIZE ? config->bytes[reg + i] : 0xff;
}

void pci_config_write(struct pci_config *config, uint32_t reg, const uint8_t *data, uint32_t size)
{
    for (uint32_t i = 0; i < size && reg + i < PCI_CONFIG_SIZE; i++) {
        uint8_t mask = config->writable[reg + i];

        config->bytes[reg + i] = (uint8_t)((config->bytes[reg + i] & ~mask) | (data[i] & mask));
    }
}

int pci_config_load(struct pci_config *config, const uint8_t bytes[PCI_CONFIG_SIZE],
                    kvmshim_error *err)
{
    for (uint32_t i = 0; i < PCI_CONFIG_SIZE; i++)
        if ((bytes[i] ^ config->bytes[i]) & ~config->writable[i])
            return error_set(err, -EINVAL, "pci state: byte 0x%02x is 0x%02x, not 0x%02x", i,
                             bytes[i], config->bytes[i]);
    memcpy(config->bytes, bytes, PCI_CONFIG_SIZE);
    return 0;
}
