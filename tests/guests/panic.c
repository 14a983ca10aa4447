/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the panic device (slot 1), moves its BAR from where the host put it, says that it
 * panicked, and goes on to power off.
 */
#include "runtime/uart.h"

enum {
    DEVICE = 0xe8000000 + (1 << 15), /* the ECAM page of 00:01.0 */
    COMMAND = 0x04,
    COMMAND_MEMORY = 2,
    BAR0 = 0x10,
    MOVED = 0xd0000000,
    CRASH_LOADED = 2,
};

void guest_main(void);

void guest_main(void)
{
    volatile uint8_t *events;

    put_text("device ");
    put_hex(*mmio32(DEVICE), 8);
    *mmio32(DEVICE + BAR0) = MOVED;
    *mmio32(DEVICE + BAR0 + 4) = 0;
    *mmio16(DEVICE + COMMAND) = COMMAND_MEMORY;
    events = mmio8(MOVED);
    put_text(" events ");
    put_hex(*events, 2);
    put_char('\n');
    *events = CRASH_LOADED;
    put_text("still here\n");
    power_off();
}
