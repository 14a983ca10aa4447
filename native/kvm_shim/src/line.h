/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line between a device and the host: what a serial port and a console have in common.
 *
 * Output goes through a ring that the line's thread empties into whatever is attached. While a
 * peer is there a full ring holds the device back; while none is it forgets the oldest bytes.
 * Input is read only as far as the device takes it, so the rest stays in the host's file.
 */
#ifndef KVM_SHIM_LINE_H
#define KVM_SHIM_LINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "counters.h"
#include "endpoint.h"
#include "io_thread.h"
#include "kvm_shim.h"
#include "ring.h"

struct line;

struct line_ops {
    /* The first three are called with the lock held. */

    /* Would fill() take anything? If not, whoever changes that calls line_kick(). */
    bool (*takes_input)(struct line *line);
    /* Take input by line_read(), and return its last result. */
    ssize_t (*fill)(struct line *line);
    /* The ring got room, or a peer that takes output came or went. */
    void (*changed)(struct line *line);
    /* Optional; in the line's thread: whoever has the pty open has a window of that size. */
    void (*resized)(struct line *line, uint16_t columns, uint16_t rows);
};

struct line {
    const struct line_ops *ops;
    kvmshim_vm *vm;
    char source[32]; /* of its hang-up events */

    pthread_mutex_t lock; /* the device's own as well */
    struct ring ring; /* output on its way to the host */
    uint32_t epoch;   /* changes when the ring is replaced under the thread's hands */
    bool taker;       /* a peer is connected that takes output */
    bool input_waits; /* there is a peer to read from once the device takes input */
    uint64_t transmitted, received, dropped; /* bytes */

    struct io_thread thread;
    int kick;  /* eventfd: look at everything again */
    int retry; /* timerfd: look whether a terminal came back, or changed its size */
    struct io_watch kick_watch, retry_watch;

    /* The thread's own. */
    struct endpoint input, output;
    struct winsize window;
    uint32_t retry_ms; /* of the timer at present; 0: off */
    bool held;         /* nothing moves */
    bool blocked;      /* the last flush left something that nobody else will see to */
    bool hangup_told;  /* one SERIAL_HANGUP for each attachment */
};

/* Start the thread, held. `line` is zeroed. */
int line_start(struct line *line, const struct line_ops *ops, kvmshim_vm *vm, const char *source,
               const char *thread_name, kvmshim_error *err);
/* Send what a connected peer takes at once, then stop and join the thread. */
void line_stop(struct line *line);

/* Send what the peer takes at once and then stand still; -ETIMEDOUT as io_thread_hold(). */
int line_hold(struct line *line, uint64_t deadline_ns);
void line_release(struct line *line);

/* Connect (-1: nothing) in place of what was connected, also while the line is held. */
int line_attach(struct line *line, int input, int output, kvmshim_error *err);

/* Make the thread look at everything again. Any thread. */
void line_kick(struct line *line);
/* Bytes transmitted, received and dropped. Any thread. */
void line_counters(struct line *line, struct counters *counters);

/* ---- in the line's thread, without the lock ---- */

/* Write what the peer takes, up to all the ring holds. */
void line_flush(struct line *line);
/* After anything changed: what to wait for from now on. The last thing a handler does. */
void line_settle(struct line *line);

/* ---- with the lock held ---- */

/* Read what is there, as endpoint_read(). */
ssize_t line_read(struct line *line, void *data, size_t size);
/* How much line_put() takes at present without forgetting anything the peer waits for. */
uint32_t line_room(const struct line *line);
/* Output. Returns how much was taken: all of it while there is no peer. */
uint32_t line_put(struct line *line, const uint8_t *data, uint32_t size);
/* Replace what the ring holds. */
void line_load(struct line *line, const struct ring_state *saved);

#endif
