/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes one byte to the debug port 0x80: the monitor notes the time at which
 * the guest reached userspace. A program without libc, since its start is part
 * of what is measured.
 */
#include <sys/syscall.h>

#define DEBUG_PORT 0x80L
#define USERSPACE 0x41

static long syscall3(long number, long first, long second, long third)
{
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(first), "S"(second), "d"(third)
                     : "rcx", "r11", "memory");
    return result;
}

void _start(void);

void _start(void)
{
    long failed = syscall3(SYS_ioperm, DEBUG_PORT, 1, 1);

    if (!failed)
        __asm__ volatile("outb %b0, $0x80" : : "a"(USERSPACE));
    syscall3(SYS_exit, failed != 0, 0, 0);
    __builtin_unreachable();
}
