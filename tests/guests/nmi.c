/* SPDX-License-Identifier: Apache-2.0 */
/* Sleeps with interrupts off, and counts the NMIs that wake it all the same. */
#include "runtime/interrupts.h"
#include "runtime/uart.h"

static volatile uint32_t count;

void guest_main(void);

INTERRUPT_HANDLER(nmi_interrupt)
{
    (void)frame;
    count++;
}

void guest_main(void)
{
    uint32_t shown = 0;

    interrupts_init();
    idt_set(VECTOR_NMI, nmi_interrupt);
    put_text("nmi ready\n");
    for (;;) {
        __asm__ volatile("hlt" : : : "memory");
        while (shown < count) {
            put_text("nmi ");
            put_number(++shown);
            put_char('\n');
        }
    }
}
