/* SPDX-License-Identifier: Apache-2.0 */
/* The IDT, the local APIC, the I/O APIC. Without an IDT a fault is a triple fault. */
#ifndef GUEST_INTERRUPTS_H
#define GUEST_INTERRUPTS_H

#include "io.h"

enum {
    IOAPIC = 0xfec00000,
    LAPIC_ID = 0xfee00020,
    LAPIC_EOI = 0xfee000b0,
    LAPIC_SPURIOUS = 0xfee000f0,
    LAPIC_ICR_LOW = 0xfee00300,
    LAPIC_ICR_HIGH = 0xfee00310,
    LAPIC_TIMER = 0xfee00320,
    LAPIC_TIMER_COUNT = 0xfee00380,
    LAPIC_TIMER_DIVIDE = 0xfee003e0,
    TIMER_ONE_SHOT = 0 << 17,
    TIMER_PERIODIC = 1 << 17,
    TIMER_TSC_DEADLINE = 2 << 17,
    TIMER_DIVIDE_BY_1 = 0x0b,
    VECTOR_NMI = 2,
    VECTOR_SPURIOUS = 0xff,
};

struct interrupt_frame;

#define INTERRUPT_HANDLER(name) \
    static __attribute__((interrupt)) void name(struct interrupt_frame *frame)

struct idt_gate {
    uint16_t offset_low, selector;
    uint8_t stack, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
};

static struct idt_gate idt[256];

static inline void idt_set(uint8_t vector, void (*handler)(struct interrupt_frame *))
{
    uintptr_t offset = (uintptr_t)handler;

    idt[vector] = (struct idt_gate){
        .offset_low = (uint16_t)offset,
        .selector = 0x08,
        .type = 0x8e, /* present, 64-bit interrupt gate */
        .offset_middle = (uint16_t)(offset >> 16),
        .offset_high = (uint32_t)(offset >> 32),
    };
}

INTERRUPT_HANDLER(ignore_spurious)
{
    (void)frame;
}

/* Load the IDT, enable the local APIC, and mask the PICs: LINT0 lets them through. */
static inline void interrupts_init(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {sizeof(idt) - 1, (uintptr_t)idt};

    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    idt_set(VECTOR_SPURIOUS, ignore_spurious);
    __asm__ volatile("lidt %0" : : "m"(pointer) : "memory");
    *mmio32(LAPIC_SPURIOUS) = 0x100 | VECTOR_SPURIOUS;
}

/* Wait for an interrupt; sti takes effect after hlt has begun, so that none is missed. */
static inline void wait_for_interrupt(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline void end_of_interrupt(void)
{
    *mmio32(LAPIC_EOI) = 0;
}

/* Deliver the edge-triggered, active-high pin to the CPU with APIC id 0. */
static inline void ioapic_route(uint32_t pin, uint8_t vector)
{
    *mmio32(IOAPIC) = 0x11 + 2 * pin;
    *mmio32(IOAPIC + 0x10) = 0;
    *mmio32(IOAPIC) = 0x10 + 2 * pin;
    *mmio32(IOAPIC + 0x10) = vector;
}

#endif
