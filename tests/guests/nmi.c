/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sleeps with interrupts off, and is woken by NMIs all the same. The handler itself prints:
 * nothing keeps an NMI from arriving between a look at what it counted and the hlt.
 */
#include "runtime/interrupts.h"
#include "runtime/uart.h"

static uint32_t count;

void guest_main(void);

INTERRUPT_HANDLER(nmi_interrupt)
{
    (void)frame;
    put_text("nmi ");
    put_number(++count);
    put_char('\n');
}

void guest_main(void)
{
    interrupts_init();
    idt_set(VECTOR_NMI, nmi_interrupt);
    put_text("nmi ready\n");
    halt_forever();
}
