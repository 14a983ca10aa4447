/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the panic device, moves its BAR from where the host put it, says that it panicked, and
 * goes on to power off.
 */
#include "runtime/uart.h"
#include "runtime/virtio.h"

enum {
    PVPANIC = 0x00111b36,
    MOVED = 0xd0000000,
    CRASH_LOADED = 2,
};

void guest_main(void);

void guest_main(void)
{
    volatile uint8_t *events = mmio8(MOVED);
    uint32_t slot = 1;

    while (*mmio32(pci_config(slot)) != PVPANIC)
        if (++slot == 32)
            power_off();
    *mmio32(pci_config(slot) + PCI_BAR0) = MOVED;
    *mmio32(pci_config(slot) + PCI_BAR0 + 4) = 0;
    *mmio16(pci_config(slot) + PCI_COMMAND) = PCI_COMMAND_MEMORY;
    put_text("events ");
    put_hex(*events, 2);
    put_char('\n');
    *events = CRASH_LOADED;
    put_text("still here\n");
    power_off();
}
