/* SPDX-License-Identifier: Apache-2.0 */
/* Counts the interrupts that arrive as messages: vector 0x50 for APIC id 0. */
#include "runtime/interrupts.h"
#include "runtime/uart.h"

enum { VECTOR_MSI = 0x50 };

static volatile uint64_t count;

void guest_main(void);

INTERRUPT_HANDLER(msi_interrupt)
{
    (void)frame;
    count++;
    end_of_interrupt();
}

void guest_main(void)
{
    uint64_t shown = 0;

    interrupts_init();
    idt_set(VECTOR_MSI, msi_interrupt);
    put_text("msi ready\n");
    for (;;) {
        while (shown == count)
            wait_for_interrupt();
        shown = count;
        put_text("msi ");
        put_number(shown);
        put_char('\n');
    }
}
