/* SPDX-License-Identifier: Apache-2.0 */
/* One direction of a line's connection to the host: a file that never blocks. */
#ifndef KVM_SHIM_ENDPOINT_H
#define KVM_SHIM_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "io_thread.h"
#include "kvm_shim.h"

enum endpoint_kind {
    ENDPOINT_FILE,       /* regular files and what else epoll does not know */
    ENDPOINT_PIPE,
    ENDPOINT_SOCKET,
    ENDPOINT_TTY,
    ENDPOINT_PTY_MASTER, /* its other side comes and goes */
};

struct endpoint {
    int fd; /* -1: not connected */
    enum endpoint_kind kind;
    bool shared; /* the open file description is the caller's as well */
    int restore; /* the flags it had, to give back at close; -1: unchanged */
    bool over;   /* end of file or broken: never used again */
    bool away;   /* no terminal on the other side at present; look again later */
    struct io_watch watch;
};

enum endpoint_direction { ENDPOINT_INPUT, ENDPOINT_OUTPUT };

/* Duplicate `fd` (-1: none) for one direction. Does not disturb it yet. */
int endpoint_open(struct endpoint *endpoint, int fd, enum endpoint_direction direction,
                  kvmshim_error *err);
/* Make it non-blocking; once the endpoint it replaces is closed. */
void endpoint_activate(struct endpoint *endpoint);
void endpoint_close(struct endpoint *endpoint);

/* As read() and write(), but -errno, never -EINTR, and never blocking. */
ssize_t endpoint_read(const struct endpoint *endpoint, void *data, size_t size);
ssize_t endpoint_write(const struct endpoint *endpoint, const void *data, size_t size);

/* Is somebody on the other side again? Makes a pty ready for him. */
bool endpoint_returned(const struct endpoint *endpoint);

/* The window of whoever has a pty's other side open; false for other kinds. */
bool endpoint_window(const struct endpoint *endpoint, struct winsize *window);

static inline bool endpoint_usable(const struct endpoint *endpoint)
{
    return endpoint->fd >= 0 && !endpoint->over && !endpoint->away;
}

#endif
