/* SPDX-License-Identifier: Apache-2.0 */
/* Faults with an IDT that has no room for a handler. */
#include "runtime/uart.h"

void guest_main(void);

void guest_main(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {0, 0};

    put_text("triple fault\n");
    __asm__ volatile("lidt %0\n\tud2" : : "m"(pointer), "a"(0x5ca1ab1eULL));
    halt_forever();
}
