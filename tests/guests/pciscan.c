/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists bus 0 by configuration mechanism 1 and by ECAM, and shows what sticks of a write of
 * all ones to the registers of 00:00.0.
 */
#include "runtime/uart.h"

enum {
    CONFIG_ADDRESS = 0xcf8,
    CONFIG_DATA = 0xcfc,
    ECAM = 0xe8000000,
    DEVICES = 32,
    NOBODY = 0xffff,
    REGISTER_ID = 0x00,
    REGISTER_COMMAND = 0x04,
    REGISTER_CLASS = 0x08,
    REGISTER_BAR0 = 0x10,
};

void guest_main(void);

static uint32_t mechanism1(uint32_t device, uint32_t reg)
{
    out32(CONFIG_ADDRESS, 1U << 31 | device << 11 | reg);
    return in32(CONFIG_DATA);
}

static uint32_t ecam(uint32_t device, uint32_t reg)
{
    return *mmio32(ECAM + (device << 15) + reg);
}

static void scan(const char *name, uint32_t (*config)(uint32_t, uint32_t))
{
    for (uint32_t device = 0; device < DEVICES; device++) {
        uint32_t id = config(device, REGISTER_ID);

        if ((id & 0xffff) == NOBODY)
            continue;
        put_text(name);
        put_text(" 00:");
        put_hex(device, 2);
        put_text(".0 ");
        put_hex(id & 0xffff, 4);
        put_char(':');
        put_hex(id >> 16, 4);
        put_text(" class ");
        put_hex(config(device, REGISTER_CLASS) >> 8, 6);
        put_char('\n');
    }
}

static void write_ones(const char *name, uint32_t reg)
{
    *mmio32(ECAM + (uintptr_t)reg) = 0xffffffff;
    put_text(name);
    put_char(' ');
    put_hex(ecam(0, reg), 8);
    put_char('\n');
}

void guest_main(void)
{
    scan("cf8", mechanism1);
    scan("ecam", ecam);
    out32(CONFIG_ADDRESS, 0);
    put_text("disabled ");
    put_hex(in32(CONFIG_DATA), 8);
    put_char('\n');
    write_ones("id", REGISTER_ID);
    write_ones("command", REGISTER_COMMAND);
    write_ones("bar0", REGISTER_BAR0);
    power_off();
}
