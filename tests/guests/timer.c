/* SPDX-License-Identifier: Apache-2.0 */
/* Ten ticks of the local APIC's timer in each of its modes that the CPU has. */
#include "runtime/interrupts.h"
#include "runtime/uart.h"

enum {
    VECTOR_TIMER = 0x30,
    TICKS = 10,
    PERIOD = 2000000, /* of KVM's 1 GHz APIC bus clock; about as many cycles of the TSC */
    MSR_TSC_DEADLINE = 0x6e0,
    CPUID_1_ECX_TSC_DEADLINE = 1 << 24,
};

static volatile uint32_t ticks;

void guest_main(void);

INTERRUPT_HANDLER(timer_interrupt)
{
    (void)frame;
    ticks++;
    end_of_interrupt();
}

static void set_deadline(void)
{
    uint32_t low, high;
    uint64_t deadline;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    deadline = (((uint64_t)high << 32) | low) + PERIOD;
    __asm__ volatile("wrmsr"
                     :
                     : "c"(MSR_TSC_DEADLINE), "a"((uint32_t)deadline),
                       "d"((uint32_t)(deadline >> 32)));
}

static void report(const char *mode)
{
    *mmio32(LAPIC_TIMER_COUNT) = 0;
    put_text(mode);
    put_char(' ');
    put_number(ticks);
    put_char('\n');
}

void guest_main(void)
{
    uint32_t eax = 1, ebx, ecx = 0, edx;

    interrupts_init();
    idt_set(VECTOR_TIMER, timer_interrupt);
    *mmio32(LAPIC_TIMER_DIVIDE) = TIMER_DIVIDE_BY_1;

    *mmio32(LAPIC_TIMER) = TIMER_PERIODIC | VECTOR_TIMER;
    *mmio32(LAPIC_TIMER_COUNT) = PERIOD;
    while (ticks < TICKS)
        wait_for_interrupt();
    report("periodic");

    *mmio32(LAPIC_TIMER) = TIMER_ONE_SHOT | VECTOR_TIMER;
    for (ticks = 0; ticks < TICKS;) {
        *mmio32(LAPIC_TIMER_COUNT) = PERIOD;
        wait_for_interrupt();
    }
    report("one-shot");

    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if (ecx & CPUID_1_ECX_TSC_DEADLINE) {
        *mmio32(LAPIC_TIMER) = TIMER_TSC_DEADLINE | VECTOR_TIMER;
        for (ticks = 0; ticks < TICKS;) {
            set_deadline();
            wait_for_interrupt();
        }
        report("deadline");
    }
    power_off();
}
