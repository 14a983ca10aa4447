/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waits for the Generic Event Device (GSI 5) and shows its flags; powers off on the button, also
 * on one that was pressed before it listened.
 */
#include "runtime/interrupts.h"
#include "runtime/uart.h"

enum { VECTOR_GED = 0x25, PIN_GED = 5, GED_FLAGS = 0xe7000000, FLAG_POWER = 8 };

static volatile uint32_t flags;

void guest_main(void);

INTERRUPT_HANDLER(ged_interrupt)
{
    (void)frame;
    flags |= *mmio8(GED_FLAGS);
    end_of_interrupt();
}

void guest_main(void)
{
    uint32_t seen, early;

    interrupts_init();
    idt_set(VECTOR_GED, ged_interrupt);
    ioapic_route(PIN_GED, VECTOR_GED);
    early = *mmio8(GED_FLAGS);
    if (early)
        flags = early;
    put_text("button ready\n");
    do {
        while (flags == 0)
            wait_for_interrupt();
        seen = flags;
        flags = 0;
        put_text("flags ");
        put_hex(seen, 2);
        put_text(" then ");
        put_hex(*mmio8(GED_FLAGS), 2);
        put_char('\n');
    } while ((seen & FLAG_POWER) == 0);
    power_off();
}
