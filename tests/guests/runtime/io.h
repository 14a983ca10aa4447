/* SPDX-License-Identifier: Apache-2.0 */
/* Ports, memory-mapped registers, and the ways a guest stops. */
#ifndef GUEST_IO_H
#define GUEST_IO_H

#include <stdint.h>

enum {
    PORT_I8042 = 0x64,
    PORT_SLEEP = 0x600,
    SLEEP_S5 = 0x34, /* SLP_EN | 5 << 2: ACPI's sleep control register */
    SLEEP_RESET = 0x01,
    COUNTERS = 0x200000, /* where a guest counts in RAM, 64 bytes for each CPU */
};

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint16_t in16(uint16_t port)
{
    uint16_t value;

    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint32_t in32(uint16_t port)
{
    uint32_t value;

    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline volatile uint8_t *mmio8(uintptr_t address)
{
    return (volatile uint8_t *)address;
}

static inline volatile uint16_t *mmio16(uintptr_t address)
{
    return (volatile uint16_t *)address;
}

static inline volatile uint32_t *mmio32(uintptr_t address)
{
    return (volatile uint32_t *)address;
}

static inline volatile uint64_t *mmio64(uintptr_t address)
{
    return (volatile uint64_t *)address;
}

static inline void spin_hint(void)
{
    __asm__ volatile("pause" : : : "memory");
}

static inline _Noreturn void halt_forever(void)
{
    for (;;)
        __asm__ volatile("cli; hlt" : : : "memory");
}

static inline _Noreturn void power_off(void)
{
    out8(PORT_SLEEP, SLEEP_S5);
    halt_forever();
}

#endif
