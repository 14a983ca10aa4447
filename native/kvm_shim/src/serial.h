/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 16550A serial port, in four files: serial_uart.c is the chip as the guest sees it,
 * serial_io.c the thread that moves bytes between the chip and the host,
 * serial_endpoint.c what kinds of host file there are, and serial.c the device's life.
 */
#ifndef KVM_SHIM_SERIAL_H
#define KVM_SHIM_SERIAL_H

#include <linux/serial_reg.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus.h"
#include "device.h"
#include "serial_endpoint.h"

enum {
    SERIAL_PORTS = 8,
    SERIAL_FIFO_SIZE = 16,
    SERIAL_TX_SIZE = 65536,

    /* The bits that the chip implements of what a guest may write. */
    SERIAL_IER_BITS = UART_IER_RDI | UART_IER_THRI | UART_IER_RLSI | UART_IER_MSI,
    SERIAL_MCR_BITS = UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT1 | UART_MCR_OUT2 | UART_MCR_LOOP,
    SERIAL_FCR_BITS = UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK, /* the others act once */
};

/* Output on its way to the host. */
struct serial_ring {
    uint32_t head; /* the oldest byte */
    uint32_t count;
    uint8_t bytes[SERIAL_TX_SIZE];
};

/* A byte received, with the line status bits that come with it. */
struct serial_rx {
    uint8_t byte;
    uint8_t errors;
};

enum serial_request { SERIAL_NOTHING, SERIAL_ATTACH, SERIAL_PAUSE, SERIAL_RESUME, SERIAL_STOP };

struct serial_io {
    pthread_t thread;
    int epoll;
    int kick;  /* eventfd: a request is there, or the RX FIFO has room again */
    int timer; /* the end of a burst of output */

    pthread_mutex_t request_lock; /* one request at a time */
    pthread_cond_t done;          /* with serial->lock: request is SERIAL_NOTHING again */
    enum serial_request request;  /* under serial->lock, as the next line */
    struct serial_endpoint next_input, next_output; /* of SERIAL_ATTACH */

    /* The thread's own. */
    struct serial_endpoint input, output;
    bool paused;
    bool blocked;     /* the last flush left something that no timer will see to */
    bool hangup_told; /* one SERIAL_HANGUP for each attachment */
};

struct serial {
    kvmshim_device device;
    uint16_t port;
    uint32_t gsi;

    pthread_mutex_t lock; /* the rest, but for what serial_io says of itself */
    uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
    uint8_t modem_delta;  /* low half of MSR */
    bool overrun;         /* LSR.OE */
    bool thre_pending;    /* the THRE interrupt's latch */
    bool thre;            /* LSR.THRE as last seen, for the latch */
    bool irq;             /* level of the pin */
    struct serial_rx rx[SERIAL_FIFO_SIZE];
    uint32_t rx_head, rx_count;

    struct serial_ring tx;
    uint32_t tx_epoch; /* changes when the ring is replaced under the thread's hands */
    bool taker;        /* a peer is connected that takes output */
    bool rx_waits;     /* the thread waits for room in the RX FIFO */
    uint64_t transmitted, received; /* bytes */
    uint64_t dropped;               /* output that no peer was there to take */
    uint64_t overruns;              /* input that found the FIFO full (loopback only) */

    struct serial_io io;
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
/* Have the thread do something and wait until it did. */
void serial_io_request(struct serial *serial, enum serial_request request);
int serial_io_attach(struct serial *serial, int input, int output, kvmshim_error *err);
/* The ring was empty and has a byte: write it out soon. Call with the lock held. */
void serial_io_arm(struct serial *serial);
/* Make the thread look at everything again. */
void serial_io_kick(struct serial *serial);

#endif
