/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 16550A serial port, in three files: serial_uart.c is the chip as the guest sees it,
 * serial_io.c its end of the line to the host (line.h), and serial.c the device's life.
 */
#ifndef KVM_SHIM_SERIAL_H
#define KVM_SHIM_SERIAL_H

#include <linux/serial_reg.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus.h"
#include "device.h"
#include "io_thread.h"
#include "line.h"

enum {
    SERIAL_PORTS = 8,
    SERIAL_FIFO_SIZE = 16,

    /* The bits that the chip implements of what a guest may write. */
    SERIAL_IER_BITS = UART_IER_RDI | UART_IER_THRI | UART_IER_RLSI | UART_IER_MSI,
    SERIAL_MCR_BITS = UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT1 | UART_MCR_OUT2 | UART_MCR_LOOP,
    SERIAL_FCR_BITS = UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK, /* the others act once */
};

/* A byte received, with the line status bits that come with it. */
struct serial_rx {
    uint8_t byte;
    uint8_t errors;
};

struct serial {
    kvmshim_device device;
    uint16_t port;
    uint32_t gsi;

    struct line line; /* its lock guards what follows */
    int burst;        /* timerfd: the end of a burst of output */
    struct io_watch burst_watch;

    uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
    uint8_t modem_delta;  /* low half of MSR */
    bool overrun;         /* LSR.OE */
    bool thre_pending;    /* the THRE interrupt's latch */
    bool thre;            /* LSR.THRE as last seen, for the latch */
    bool irq;             /* level of the pin */
    struct serial_rx rx[SERIAL_FIFO_SIZE];
    uint32_t rx_head, rx_count;
    uint64_t overruns; /* input that found the FIFO full (loopback only) */
};

/* ---- serial_uart.c; call with the lock held ---- */

extern const struct bus_ops serial_bus_ops;

/* How many bytes the receiver takes now; none in loopback, which cuts the line. */
uint32_t serial_rx_room(const struct serial *serial);
void serial_receive(struct serial *serial, uint8_t byte);
/* After any change: THRE latch, interrupt pin, wake-up of a waiting reader. */
void serial_update(struct serial *serial);
/* After the registers were replaced: what follows from them, the pin's level included. */
void serial_refresh(struct serial *serial);

/* ---- serial_io.c ---- */

int serial_io_start(struct serial *serial, kvmshim_error *err);
/* Flush what a connected peer takes at once, then stop and join the thread. */
void serial_io_stop(struct serial *serial);
/* The ring was empty and has a byte: write it out soon. */
void serial_io_arm(struct serial *serial);

#endif
