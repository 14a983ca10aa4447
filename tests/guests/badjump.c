/* SPDX-License-Identifier: Apache-2.0 */
/* Jumps to where no memory is: KVM can neither run nor emulate what it cannot fetch. */
#include "runtime/uart.h"

enum { NOBODY = 0xd0000000 };

void guest_main(void);

void guest_main(void)
{
    put_text("bad jump\n");
    __asm__ volatile("jmp *%0" : : "r"((uintptr_t)NOBODY), "a"(0x5ca1ab1eULL));
    __builtin_unreachable();
}
