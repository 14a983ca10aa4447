/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's thread: it waits for file descriptors and calls what watches them. It can be held
 * between two calls, and it is always stopped and joined.
 */
#ifndef KVM_SHIM_IO_THREAD_H
#define KVM_SHIM_IO_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvm_shim.h"

struct io_batch;

/* `events` as epoll reports them. May watch, change and forget any descriptor. */
typedef void io_handler(void *opaque, uint32_t events);

struct io_watch { /* embedded by whoever watches; zeroed at first */
    int fd;
    uint32_t events;
    io_handler *handler;
    void *opaque;
    bool added;
};

struct io_thread {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* on CLOCK_MONOTONIC */
    int epoll_fd, wake_fd;
    bool started, stopping, holding, held;
    void (*call)(void *opaque); /* of io_thread_call() */
    void *call_opaque;
    _Atomic bool attention;     /* one of the above changed: look before the next handler */
    struct io_batch *batch;     /* the events fetched last, the thread's own */
};

/* Start the thread, held, with the filter of its kind (KVMSHIM_THREAD_..., where _CONTROL is
 * none); `name` is what ps shows (15 characters). All signals are blocked. */
int io_thread_start(struct io_thread *thread, const kvmshim_vm *vm, unsigned int kind,
                    const char *name, kvmshim_error *err);
/* Stop and join; harmless on one that was never started (zeroed). */
void io_thread_stop(struct io_thread *thread);

/*
 * Level-triggered, until forgotten; a watch that is on already is begun anew. From the thread
 * itself, or while it is held. When forget returns, the handler is not called any more, not
 * even for an event already fetched.
 */
int io_thread_watch(struct io_thread *thread, struct io_watch *watch, int fd, uint32_t events,
                    io_handler *handler, void *opaque, kvmshim_error *err);
void io_thread_change(struct io_thread *thread, struct io_watch *watch, uint32_t events);
void io_thread_forget(struct io_thread *thread, struct io_watch *watch);

/* Have the thread wait between two calls. -ETIMEDOUT when a handler did not return by then;
 * the thread runs on. From other threads. */
int io_thread_hold(struct io_thread *thread, uint64_t deadline_ns);
void io_thread_release(struct io_thread *thread);

/* Run `function` in the thread as soon as it can, also while it is held, and wait for it.
 * From other threads; not once the thread was stopped. */
void io_thread_call(struct io_thread *thread, void (*function)(void *opaque), void *opaque);

#endif
