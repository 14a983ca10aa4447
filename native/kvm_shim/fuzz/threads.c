/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device threads without threads: what is ready is served when an input says so, in an order
 * that is always the same.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "error.h"
#include "harness.h"
#include "io_thread.h"
#include "kvm_shim_seccomp.h"
#include "thread.h"

enum { WATCHES = 4096, ROUNDS = 64 };

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
                   EPOLLHUP == POLLHUP && EPOLLPRI == POLLPRI,
               "the events of poll(2) are those of epoll(7)");

static _Thread_local struct {
    struct io_thread *thread;
    struct io_watch *watch;
} watches[WATCHES];
static _Thread_local uint32_t watch_count;

int io_thread_start(struct io_thread *thread, const kvmshim_vm *vm, unsigned int kind,
                    const char *name, kvmshim_error *err)
{
    FUZZ_CHECK(vm && kind < KVMSHIM_THREAD_KINDS);
    FUZZ_CHECK(name[0] && strlen(name) < 16 && (!err || !thread->started));
    thread->started = thread->held = true;
    return 0;
}

int thread_confine(const struct sock_fprog *filter)
{
    FUZZ_CHECK(!filter);
    return 0;
}

void io_thread_stop(struct io_thread *thread)
{
    for (uint32_t i = 0; i < watch_count;) {
        if (watches[i].thread == thread)
            watches[i] = watches[--watch_count];
        else
            i++;
    }
    thread->started = false;
}

int io_thread_watch(struct io_thread *thread, struct io_watch *watch, int fd, uint32_t events,
                    io_handler *handler, void *opaque, kvmshim_error *err)
{
    FUZZ_CHECK(thread->started && watch_count < WATCHES && (!err || fd >= 0));
    io_thread_forget(thread, watch);
    *watch = (struct io_watch){
        .fd = fd, .events = events, .handler = handler, .opaque = opaque, .added = true};
    watches[watch_count].thread = thread;
    watches[watch_count++].watch = watch;
    return 0;
}

void io_thread_change(struct io_thread *thread, struct io_watch *watch, uint32_t events)
{
    FUZZ_CHECK(thread->started);
    watch->events = events;
}

void io_thread_forget(struct io_thread *thread, struct io_watch *watch)
{
    if (!watch->added)
        return;
    watch->added = false;
    for (uint32_t i = 0; i < watch_count; i++) {
        if (watches[i].watch == watch) {
            FUZZ_CHECK(watches[i].thread == thread);
            watches[i] = watches[--watch_count];
            return;
        }
    }
    FUZZ_CHECK(!"watched by nobody");
}

int io_thread_hold(struct io_thread *thread, uint64_t deadline_ns)
{
    FUZZ_CHECK(thread->started && deadline_ns != 0);
    thread->held = true;
    return 0;
}

void io_thread_release(struct io_thread *thread)
{
    FUZZ_CHECK(thread->started);
    thread->held = false;
}

void io_thread_call(struct io_thread *thread, void (*function)(void *opaque), void *opaque)
{
    FUZZ_CHECK(thread->started);
    function(opaque);
}

/* Serve one watch that is ready; false when there is none. */
static bool serve(uint32_t *next)
{
    for (uint32_t i = 0; i < watch_count; i++) {
        uint32_t at = (*next + i) % watch_count;
        struct io_watch *watch = watches[at].watch;
        struct pollfd ready = {.fd = watch->fd, .events = (short)watch->events};

        if (!watches[at].thread->held && poll(&ready, 1, 0) == 1) {
            *next = at + 1;
            watch->handler(watch->opaque, (uint32_t)ready.revents);
            return true;
        }
    }
    return false;
}

void fuzz_run(void)
{
    uint32_t next = 0;

    for (int i = 0; i < ROUNDS && serve(&next); i++)
        ;
}
