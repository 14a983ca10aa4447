/* SPDX-License-Identifier: Apache-2.0 */
/* One direction of a serial port's connection to the host: a file that never blocks. */
#ifndef KVM_SHIM_SERIAL_ENDPOINT_H
#define KVM_SHIM_SERIAL_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kvm_shim.h"

enum serial_kind {
    SERIAL_FILE,       /* regular files and what else epoll does not know */
    SERIAL_PIPE,
    SERIAL_SOCKET,
    SERIAL_TTY,
    SERIAL_PTY_MASTER, /* its other side comes and goes */
};

struct serial_endpoint {
    int fd; /* -1: not connected */
    enum serial_kind kind;
    bool shared;     /* the open file description is the caller's as well */
    int restore;     /* the flags it had, to give back at close; -1: unchanged */
    bool over;       /* end of file or broken: never used again */
    bool away;       /* no terminal on the other side at present; look again later */
    bool registered; /* in the epoll set, with `interest` */
    uint32_t interest;
};

enum serial_direction { SERIAL_INPUT, SERIAL_OUTPUT };

/* Duplicate `fd` (-1: none) for one direction. Does not disturb it yet. */
int serial_endpoint_open(struct serial_endpoint *endpoint, int fd,
                         enum serial_direction direction, kvmshim_error *err);
/* Make it non-blocking; once the endpoint it replaces is closed. */
void serial_endpoint_activate(struct serial_endpoint *endpoint);
void serial_endpoint_close(struct serial_endpoint *endpoint);

/* As read() and write(), but -errno, never -EINTR, and never blocking. */
ssize_t serial_endpoint_read(const struct serial_endpoint *endpoint, void *data, size_t size);
ssize_t serial_endpoint_write(const struct serial_endpoint *endpoint, const void *data,
                              size_t size);

/* Is somebody on the other side again? Makes a pty ready for him. */
bool serial_endpoint_returned(const struct serial_endpoint *endpoint);

static inline bool serial_endpoint_usable(const struct serial_endpoint *endpoint)
{
    return endpoint->fd >= 0 && !endpoint->over && !endpoint->away;
}

#endif
