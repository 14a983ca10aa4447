/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Echoes what COM1 receives, by interrupts (I/O APIC pin 4), until a 'q'; then powers off.
 * Never polls for input: without the interrupt it would sleep for ever.
 */
#include "runtime/interrupts.h"
#include "runtime/uart.h"

enum { VECTOR_SERIAL = 0x24, PIN_SERIAL = 4 };

static volatile int quit;

void guest_main(void);

INTERRUPT_HANDLER(serial_interrupt)
{
    (void)frame;
    while (in8(UART_LSR) & UART_LSR_RECEIVED) {
        char character = (char)in8(UART_DATA);

        put_char(character);
        if (character == 'q')
            quit = 1;
    }
    end_of_interrupt();
}

void guest_main(void)
{
    interrupts_init();
    idt_set(VECTOR_SERIAL, serial_interrupt);
    ioapic_route(PIN_SERIAL, VECTOR_SERIAL);
    out8(UART_FCR, UART_FCR_ENABLE);
    out8(UART_MCR, UART_MCR_DTR_RTS_OUT2);
    out8(UART_IER, UART_IER_RECEIVED);
    put_text("echo ready\n");
    while (!quit)
        wait_for_interrupt();
    put_text("bye\n");
    power_off();
}
