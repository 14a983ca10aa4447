/* SPDX-License-Identifier: Apache-2.0 */
/* Ports that nobody claims, in each size and by string instructions. */
#include "runtime/uart.h"

enum { NOBODY = 0x5000 };

void guest_main(void);

static void report(const char *name, uint64_t value, unsigned digits)
{
    put_text(name);
    put_char(' ');
    put_hex(value, digits);
    put_char('\n');
}

void guest_main(void)
{
    static const char text[] = "string output\n";
    static uint32_t words[2];
    const char *from = text;
    void *to = words;
    uint64_t count = sizeof(text) - 1;

    report("in8", in8(NOBODY), 2);
    report("in16", in16(NOBODY), 4);
    report("in32", in32(NOBODY), 8);
    out8(NOBODY, 1);
    out16(NOBODY, 2);
    out32(NOBODY, 3);

    __asm__ volatile("rep outsb"
                     : "+S"(from), "+c"(count)
                     : "d"((uint16_t)UART_DATA)
                     : "memory");
    count = sizeof(words) / sizeof(words[0]);
    __asm__ volatile("rep insl" : "+D"(to), "+c"(count) : "d"((uint16_t)NOBODY) : "memory");
    report("insl", (uint64_t)words[1] << 32 | words[0], 16);
    power_off();
}
