/* SPDX-License-Identifier: Apache-2.0 */
/* Starting the other processors: INIT, then a startup IPI for each APIC id. */
#ifndef GUEST_SMP_H
#define GUEST_SMP_H

#include "interrupts.h"

enum {
    TRAMPOLINE = 0x10000,
    ICR_INIT = 0x4500,
    ICR_STARTUP = 0x4600,
    ICR_PENDING = 0x1000,
};

extern const uint8_t ap_trampoline[], ap_trampoline_end[];

/* Runs on each of the others with its number, from 1, in the order of arrival. */
void ap_main(uint32_t number);

static inline void send_ipi(uint32_t apic_id, uint32_t command)
{
    *mmio32(LAPIC_ICR_HIGH) = apic_id << 24;
    *mmio32(LAPIC_ICR_LOW) = command;
    while (*mmio32(LAPIC_ICR_LOW) & ICR_PENDING)
        spin_hint();
}

static inline void start_processors(uint32_t count)
{
    uintptr_t size = (uintptr_t)ap_trampoline_end - (uintptr_t)ap_trampoline;

    for (uintptr_t i = 0; i < size; i++)
        *mmio8(TRAMPOLINE + i) = ap_trampoline[i];
    for (uint32_t id = 1; id < count; id++) {
        send_ipi(id, ICR_INIT);
        send_ipi(id, ICR_STARTUP | TRAMPOLINE >> 12);
    }
}

#endif
