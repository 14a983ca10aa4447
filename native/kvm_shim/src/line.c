/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line's thread blocks nowhere but in its wait for events (endpoint.c), so whoever waits
 * for it waits for no peer. It runs with every signal blocked; the SIGPIPE of a write to a
 * broken pipe stays pending on this thread alone, and ends with it.
 */
#include "line.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "device.h"
#include "error.h"
#include "kvm_shim_seccomp.h"

enum {
    AWAY_RETRY_MS = 100,    /* how often to look whether a terminal has come back */
    WINDOW_RETRY_MS = 1000, /* ... whether a pty's window has another size */
    CHUNK_SIZE = 4096,      /* one write() */
    FLUSH_CHUNKS = RING_SIZE / CHUNK_SIZE, /* then look at other events again */
};

static const struct endpoint unconnected = {.fd = -1, .restore = -1};

void line_kick(struct line *line)
{
    eventfd_write(line->kick, 1);
}

void line_counters(struct line *line, struct counters *counters)
{
    pthread_mutex_lock(&line->lock);
    counters_add(counters, line->transmitted, "transmitted");
    counters_add(counters, line->received, "received");
    counters_add(counters, line->dropped, "dropped");
    pthread_mutex_unlock(&line->lock);
}

/* ---- the ring --------------------------------------------------------------- */

uint32_t line_room(const struct line *line)
{
    return line->taker ? RING_SIZE - line->ring.count : RING_SIZE;
}

uint32_t line_put(struct line *line, const uint8_t *data, uint32_t size)
{
    uint32_t taken = size;
    uint32_t free = RING_SIZE - line->ring.count;

    if (line->taker && size > free)
        taken = size = free;
    if (size > RING_SIZE) {
        line->dropped += size - RING_SIZE;
        data += size - RING_SIZE;
        size = RING_SIZE;
    }
    if (size > free) {
        line->dropped += size - free;
        ring_consume(&line->ring, size - free);
    }
    ring_append(&line->ring, data, size);
    return taken;
}

void line_load(struct line *line, const struct ring_state *saved)
{
    line->epoch++;
    ring_load(&line->ring, saved);
}

/* ---- the thread --------------------------------------------------------------- */

/* The endpoint reached its end, with `cause` 0, or failed with -errno. */
static void line_lost(struct line *line, struct endpoint *endpoint, ssize_t cause)
{
    bool input = endpoint == &line->input;

    /* EIO: nobody has a pty's slave open, or this process is in its terminal's background. */
    if (cause == -EIO && (endpoint->kind == ENDPOINT_PTY_MASTER ||
                          (input && endpoint->kind == ENDPOINT_TTY))) {
        endpoint->away = true;
        return;
    }
    endpoint->over = true;
    /* A file just ends, and so does what is typed into a terminal; a socket that has only
     * shut down its sending side still listens, and says so when it does not. */
    if (input && cause == 0 &&
        (endpoint->kind == ENDPOINT_FILE || endpoint->kind == ENDPOINT_TTY ||
         (endpoint->kind == ENDPOINT_SOCKET && line->output.kind == ENDPOINT_SOCKET &&
          endpoint_usable(&line->output))))
        return;
    if (line->hangup_told)
        return;
    line->hangup_told = true;
    machine_event(line->vm, KVMSHIM_EVENT_SERIAL_HANGUP, line->source);
}

/* The lock is not held while writing. */
void line_flush(struct line *line)
{
    uint8_t chunk[CHUNK_SIZE];

    line->blocked = false;
    for (int i = 0; i < FLUSH_CHUNKS; i++) {
        uint32_t epoch, size;
        ssize_t count;

        if (line->held || !endpoint_usable(&line->output))
            return;
        pthread_mutex_lock(&line->lock);
        epoch = line->epoch;
        size = ring_peek(&line->ring, chunk, sizeof(chunk));
        pthread_mutex_unlock(&line->lock);
        if (size == 0)
            return;

        count = endpoint_write(&line->output, chunk, size);
        if (count == 0 || count == -EAGAIN)
            break;
        if (count < 0) {
            line_lost(line, &line->output, count);
            return;
        }
        pthread_mutex_lock(&line->lock);
        line->transmitted += (uint64_t)count;
        if (epoch == line->epoch) {
            ring_consume(&line->ring, (uint32_t)count);
            line->ops->changed(line);
        }
        pthread_mutex_unlock(&line->lock);
    }
    line->blocked = true;
}

ssize_t line_read(struct line *line, void *data, size_t size)
{
    ssize_t count = endpoint_read(&line->input, data, size);

    if (count > 0)
        line->received += (uint64_t)count;
    return count;
}

/* The lock is held throughout, so that the device's room does not change. */
static void line_fill(struct line *line)
{
    ssize_t count = -EAGAIN;

    if (line->held || !endpoint_usable(&line->input))
        return;
    pthread_mutex_lock(&line->lock);
    if (line->ops->takes_input(line))
        count = line->ops->fill(line);
    pthread_mutex_unlock(&line->lock);
    if (count <= 0 && count != -EAGAIN)
        line_lost(line, &line->input, count);
}

static void line_measure(struct line *line)
{
    struct winsize window;

    if (!line->ops->resized || !endpoint_window(&line->output, &window) ||
        (window.ws_col == line->window.ws_col && window.ws_row == line->window.ws_row))
        return;
    line->window = window;
    line->ops->resized(line, window.ws_col, window.ws_row);
}

static void line_input_ready(void *opaque, uint32_t events)
{
    struct line *line = opaque;

    (void)events; /* what a hang-up means the read tells */
    line_fill(line);
    line_settle(line);
}

static void line_output_ready(void *opaque, uint32_t events)
{
    struct line *line = opaque;

    if (events & (EPOLLERR | EPOLLHUP))
        line_lost(line, &line->output,
                  line->output.kind == ENDPOINT_PTY_MASTER ? -EIO : -EPIPE);
    line_flush(line);
    line_settle(line);
}

static void line_look(struct line *line)
{
    line_flush(line);
    line_fill(line);
    line_measure(line);
    line_settle(line);
}

static void line_kicked(void *opaque, uint32_t events)
{
    struct line *line = opaque;
    eventfd_t drained;

    (void)events;
    eventfd_read(line->kick, &drained);
    line_look(line);
}

static void line_retry(void *opaque, uint32_t events)
{
    struct line *line = opaque;
    uint64_t drained;

    (void)events;
    (void)!read(line->retry, &drained, sizeof(drained));
    if (line->input.away && endpoint_returned(&line->input))
        line->input.away = false;
    if (line->output.away && endpoint_returned(&line->output))
        line->output.away = false;
    line_look(line);
}

/* Wait for `interest` on the endpoint; errors and hangups are always reported. */
static void line_watch(struct line *line, struct endpoint *endpoint, io_handler *handler,
                       uint32_t interest)
{
    if (endpoint->kind == ENDPOINT_FILE)
        return;
    if (endpoint->watch.added)
        io_thread_change(&line->thread, &endpoint->watch, interest);
    else if (io_thread_watch(&line->thread, &endpoint->watch, endpoint->fd, interest, handler,
                             line, NULL) < 0)
        endpoint->away = true; /* the kernel is short of memory: try again later */
}

/* A hangup is reported without end: what is not to be acted upon is taken out. */
static void line_unwatch(struct line *line, struct endpoint *endpoint)
{
    if (endpoint->watch.added)
        io_thread_forget(&line->thread, &endpoint->watch);
}

/* Tell the device whether somebody is there. What was kept for him no burst will send. */
static void line_set_taker(struct line *line)
{
    bool taker = endpoint_usable(&line->output);

    pthread_mutex_lock(&line->lock);
    if (taker != line->taker) {
        line->taker = taker;
        line->ops->changed(line);
        if (line->ring.count > 0)
            line->blocked = true;
    }
    pthread_mutex_unlock(&line->lock);
}

static void line_set_retry(struct line *line)
{
    uint32_t ms = 0;

    if (line->input.away || line->output.away)
        ms = AWAY_RETRY_MS;
    else if (line->ops->resized && line->output.kind == ENDPOINT_PTY_MASTER &&
             endpoint_usable(&line->output))
        ms = WINDOW_RETRY_MS;
    if (ms != line->retry_ms) {
        const struct timespec period = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
        const struct itimerspec timer = {.it_interval = period, .it_value = period};

        timerfd_settime(line->retry, 0, &timer, NULL);
        line->retry_ms = ms;
    }
}

void line_settle(struct line *line)
{
    bool reads = endpoint_usable(&line->input) && !line->held;
    bool writes;

    pthread_mutex_lock(&line->lock);
    line->input_waits = reads && !line->ops->takes_input(line);
    reads = reads && !line->input_waits;
    pthread_mutex_unlock(&line->lock);
    line_set_taker(line);
    writes = line->blocked && endpoint_usable(&line->output) && !line->held;

    if (reads)
        line_watch(line, &line->input, line_input_ready, EPOLLIN);
    else
        line_unwatch(line, &line->input);
    if (endpoint_usable(&line->output))
        line_watch(line, &line->output, line_output_ready, writes ? EPOLLOUT : 0);
    else
        line_unwatch(line, &line->output);
    if ((reads && line->input.kind == ENDPOINT_FILE) ||
        (writes && line->output.kind == ENDPOINT_FILE))
        line_kick(line);
    line_set_retry(line);
}

/* ---- its callers ---------------------------------------------------------------- */

struct line_ends {
    struct line *line;
    struct endpoint input, output;
};

/* New endpoints in place of the present ones, which have their flags back before the next
 * take theirs: they may be the same file. */
static void line_replace(void *opaque)
{
    struct line_ends *next = opaque;
    struct line *line = next->line;

    line_flush(line);
    line_unwatch(line, &line->output);
    line_unwatch(line, &line->input);
    endpoint_close(&line->output);
    endpoint_close(&line->input);
    line->input = next->input;
    line->output = next->output;
    line->hangup_told = false;
    line->window = (struct winsize){.ws_col = 0};
    endpoint_activate(&line->input);
    endpoint_activate(&line->output);
    line->blocked = true; /* what the ring holds may go now */
    line_settle(line);
    line_kick(line);
}

int line_attach(struct line *line, int input, int output, kvmshim_error *err)
{
    struct line_ends next = {.line = line};
    int rc;

    rc = endpoint_open(&next.input, input, ENDPOINT_INPUT, err);
    if (rc < 0)
        return rc;
    rc = endpoint_open(&next.output, output, ENDPOINT_OUTPUT, err);
    if (rc < 0) {
        endpoint_close(&next.input);
        return rc;
    }
    io_thread_call(&line->thread, line_replace, &next);
    return 0;
}

/* In the thread, although it is held: attaching may happen at the same time. */
static void line_stand(void *opaque)
{
    struct line *line = opaque;

    pthread_mutex_lock(&line->lock);
    line->ops->changed(line); /* what the device still has is to go as well */
    pthread_mutex_unlock(&line->lock);
    line_flush(line);
    line->held = true;
}

static void line_go(void *opaque)
{
    struct line *line = opaque;

    line->held = false;
    line->blocked = true;
    line_kick(line);
}

int line_hold(struct line *line, uint64_t deadline_ns)
{
    int rc = io_thread_hold(&line->thread, deadline_ns);

    if (rc == 0)
        io_thread_call(&line->thread, line_stand, line);
    return rc;
}

void line_release(struct line *line)
{
    io_thread_call(&line->thread, line_go, line);
    io_thread_release(&line->thread);
}

static void line_close_fds(struct line *line)
{
    if (line->retry >= 0)
        close(line->retry);
    if (line->kick >= 0)
        close(line->kick);
    pthread_mutex_destroy(&line->lock);
}

int line_start(struct line *line, const struct line_ops *ops, kvmshim_vm *vm, const char *source,
               const char *thread_name, kvmshim_error *err)
{
    int rc;

    line->ops = ops;
    line->vm = vm;
    snprintf(line->source, sizeof(line->source), "%s", source);
    line->input = line->output = unconnected;
    line->held = true;
    pthread_mutex_init(&line->lock, NULL);
    line->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    line->retry = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (line->kick < 0 || line->retry < 0) {
        rc = error_set(err, -errno, "%s: create eventfd and timerfd", source);
        goto close_fds;
    }
    rc = io_thread_start(&line->thread, vm, KVMSHIM_THREAD_LINE, thread_name, err);
    if (rc < 0)
        goto close_fds;
    rc = io_thread_watch(&line->thread, &line->kick_watch, line->kick, EPOLLIN, line_kicked, line,
                         err);
    if (rc == 0)
        rc = io_thread_watch(&line->thread, &line->retry_watch, line->retry, EPOLLIN, line_retry,
                             line, err);
    if (rc == 0)
        return 0;
    io_thread_stop(&line->thread);
close_fds:
    line_close_fds(line);
    return rc;
}

void line_stop(struct line *line)
{
    struct line_ends none = {.line = line, .input = unconnected, .output = unconnected};

    io_thread_call(&line->thread, line_replace, &none);
    io_thread_stop(&line->thread);
    line_close_fds(line);
}
