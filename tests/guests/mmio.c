/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses that nobody claims, in each size, across a page and by string instructions. */
#include "runtime/uart.h"

enum { NOBODY = 0xd0000000 };

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
    static uint64_t words[2];
    const volatile void *from = mmio64(NOBODY);
    void *to = words;
    uint64_t count = sizeof(words) / sizeof(words[0]);

    report("read8", *mmio8(NOBODY), 2);
    report("read16", *mmio16(NOBODY), 4);
    report("read32", *mmio32(NOBODY), 8);
    report("read64", *mmio64(NOBODY), 16);
    report("unaligned", *mmio32(NOBODY + 3), 8);
    report("crossing", *mmio32(NOBODY + 0xffe), 8);
    *mmio8(NOBODY) = 1;
    *mmio16(NOBODY) = 2;
    *mmio32(NOBODY) = 3;
    *mmio64(NOBODY) = 4;

    __asm__ volatile("rep movsq" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    report("movsq", words[0] & words[1], 16);
    power_off();
}
