/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who wants something of the thread says so under the lock, raises `attention` and makes
 * wake_fd readable. The thread looks at `attention` before each handler, so it serves at most
 * one event after that; what it fetched and did not serve is still there, as epoll is
 * level-triggered. A thread that nobody wants anything of takes no lock.
 */
#include "io_thread.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "seccomp_filter.h"
#include "thread.h"

enum { BATCH = 16 };

/* A handler's deepest stack is one of a virtqueue, with an iovec for each of its segments. */
#define STACK_SIZE (256 * 1024)

struct io_batch {
    struct epoll_event events[BATCH];
    int count;
};

/* Do what is asked for. False when the thread is to end. */
static bool io_thread_attend(struct io_thread *thread)
{
    eventfd_t wakes;
    bool go_on;

    pthread_mutex_lock(&thread->lock);
    for (;;) {
        if (thread->call) {
            void (*call)(void *) = thread->call;
            void *opaque = thread->call_opaque;

            pthread_mutex_unlock(&thread->lock);
            call(opaque);
            pthread_mutex_lock(&thread->lock);
            thread->call = NULL;
            pthread_cond_broadcast(&thread->changed);
        } else if (thread->holding && !thread->stopping) {
            if (!thread->held) {
                thread->held = true;
                pthread_cond_broadcast(&thread->changed);
            }
            pthread_cond_wait(&thread->changed, &thread->lock);
        } else {
            break;
        }
    }
    thread->held = false;
    go_on = !thread->stopping;
    atomic_store(&thread->attention, false);
    eventfd_read(thread->wake_fd, &wakes);
    pthread_mutex_unlock(&thread->lock);
    return go_on;
}

static void *io_thread_main(void *argument)
{
    struct io_thread *thread = argument;
    struct io_batch batch = {.count = 0};

    thread->batch = &batch;
    while (!atomic_load(&thread->attention) || io_thread_attend(thread)) {
        batch.count = epoll_wait(thread->epoll_fd, batch.events, BATCH, -1);
        for (int i = 0; i < batch.count && !atomic_load(&thread->attention); i++) {
            struct io_watch *watch = batch.events[i].data.ptr;

            if (watch) /* neither wake_fd nor forgotten */
                watch->handler(watch->opaque, batch.events[i].events);
        }
        batch.count = 0;
    }
    return NULL;
}

/* The lock is held. */
static void io_thread_wake(struct io_thread *thread)
{
    atomic_store(&thread->attention, true);
    eventfd_write(thread->wake_fd, 1);
    pthread_cond_broadcast(&thread->changed);
}

static int io_thread_open(struct io_thread *thread, kvmshim_error *err)
{
    struct epoll_event wake = {.events = EPOLLIN};

    thread->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (thread->epoll_fd < 0)
        return error_set(err, -errno, "epoll of a device's thread");
    thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (thread->wake_fd < 0) {
        int rc = error_set(err, -errno, "eventfd of a device's thread");

        close(thread->epoll_fd);
        return rc;
    }
    if (epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, thread->wake_fd, &wake) < 0) {
        int rc = error_set(err, -errno, "watch the eventfd of a device's thread");

        close(thread->wake_fd);
        close(thread->epoll_fd);
        return rc;
    }
    return 0;
}

static void io_thread_close(struct io_thread *thread)
{
    close(thread->wake_fd);
    close(thread->epoll_fd);
    pthread_cond_destroy(&thread->changed);
    pthread_mutex_destroy(&thread->lock);
}

/* A new thread has its creator's signal mask: the process's signals are none of its business. */
int io_thread_start(struct io_thread *thread, const kvmshim_vm *vm, unsigned int kind,
                    const char *name, kvmshim_error *err)
{
    const struct thread_start start = {
        .name = name,
        .stack = STACK_SIZE,
        .filter = seccomp_filter(vm, kind),
        .run = io_thread_main,
        .argument = thread,
    };
    pthread_condattr_t attributes;
    int rc;

    rc = io_thread_open(thread, err);
    if (rc < 0)
        return rc;
    pthread_mutex_init(&thread->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&thread->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    thread->stopping = false;
    thread->holding = true;
    atomic_store(&thread->attention, true);
    rc = thread_create(&thread->thread, &start);
    if (rc < 0) {
        io_thread_close(thread);
        return error_set(err, rc, "start a device's thread");
    }
    thread->started = true;
    /* Whoever comes next may rely on it being held. */
    return io_thread_hold(thread, UINT64_MAX);
}

void io_thread_stop(struct io_thread *thread)
{
    if (!thread->started)
        return;
    pthread_mutex_lock(&thread->lock);
    thread->stopping = true;
    io_thread_wake(thread);
    pthread_mutex_unlock(&thread->lock);
    pthread_join(thread->thread, NULL);
    thread->started = false;
    io_thread_close(thread);
}

int io_thread_watch(struct io_thread *thread, struct io_watch *watch, int fd, uint32_t events,
                    io_handler *handler, void *opaque, kvmshim_error *err)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    io_thread_forget(thread, watch);
    *watch = (struct io_watch){
        .fd = fd, .events = events, .handler = handler, .opaque = opaque};
    if (epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return error_set(err, -errno, "watch fd %d", fd);
    watch->added = true;
    return 0;
}

void io_thread_change(struct io_thread *thread, struct io_watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    if (!watch->added || watch->events == events)
        return;
    watch->events = events;
    epoll_ctl(thread->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
}

void io_thread_forget(struct io_thread *thread, struct io_watch *watch)
{
    if (!watch->added)
        return;
    watch->added = false;
    epoll_ctl(thread->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    for (int i = 0; i < thread->batch->count; i++)
        if (thread->batch->events[i].data.ptr == watch)
            thread->batch->events[i].data.ptr = NULL;
}

int io_thread_hold(struct io_thread *thread, uint64_t deadline_ns)
{
    const struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / 1000000000),
        .tv_nsec = (long)(deadline_ns % 1000000000),
    };
    int rc = 0;

    pthread_mutex_lock(&thread->lock);
    thread->holding = true;
    io_thread_wake(thread);
    while (!thread->held && rc == 0)
        rc = pthread_cond_timedwait(&thread->changed, &thread->lock, &deadline);
    if (!thread->held) {
        thread->holding = false;
        pthread_cond_broadcast(&thread->changed);
    }
    rc = thread->held ? 0 : -ETIMEDOUT;
    pthread_mutex_unlock(&thread->lock);
    return rc;
}

void io_thread_release(struct io_thread *thread)
{
    pthread_mutex_lock(&thread->lock);
    thread->holding = false;
    io_thread_wake(thread);
    pthread_mutex_unlock(&thread->lock);
}

void io_thread_call(struct io_thread *thread, void (*function)(void *opaque), void *opaque)
{
    pthread_mutex_lock(&thread->lock);
    while (thread->call) /* another thread's */
        pthread_cond_wait(&thread->changed, &thread->lock);
    thread->call = function;
    thread->call_opaque = opaque;
    io_thread_wake(thread);
    while (thread->call)
        pthread_cond_wait(&thread->changed, &thread->lock);
    pthread_mutex_unlock(&thread->lock);
}

