/* SPDX-License-Identifier: Apache-2.0 */
/* COM1, polled. */
#ifndef GUEST_UART_H
#define GUEST_UART_H

#include "io.h"

enum {
    COM1 = 0x3f8,
    UART_DATA = COM1 + 0,
    UART_IER = COM1 + 1,
    UART_FCR = COM1 + 2,
    UART_MCR = COM1 + 4,
    UART_LSR = COM1 + 5,
    UART_IER_RECEIVED = 0x01,
    UART_FCR_ENABLE = 0x01,
    UART_MCR_DTR_RTS_OUT2 = 0x0b, /* OUT2 gates the interrupt line of a PC's port */
    UART_LSR_RECEIVED = 0x01,
    UART_LSR_EMPTY = 0x20,
};

static inline void put_char(char character)
{
    while ((in8(UART_LSR) & UART_LSR_EMPTY) == 0)
        spin_hint();
    out8(UART_DATA, (uint8_t)character);
}

static inline void put_text(const char *text)
{
    while (*text != '\0')
        put_char(*text++);
}

static inline void put_hex(uint64_t value, unsigned digits)
{
    while (digits-- > 0)
        put_char("0123456789abcdef"[(value >> (4 * digits)) & 15]);
}

static inline void put_number(uint64_t value)
{
    char digits[20];
    unsigned count = 0;

    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count > 0)
        put_char(digits[--count]);
}

#endif
