/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread between a serial port's FIFOs and the host's files.
 *
 * A guest writes its console byte by byte. The first byte that finds the ring empty arms a
 * timer of one millisecond; when it fires all that has come together goes out by one write().
 * So a vCPU pays one system call for a burst, and a reader is late by a millisecond at most.
 * If the peer takes less, epoll tells when it takes more.
 *
 * The thread blocks nowhere but in epoll_wait() (serial_endpoint.c), so whoever waits for it
 * to serve a request waits for no peer. It runs with every signal blocked; the SIGPIPE of a
 * write to a broken pipe stays pending on this thread alone, and ends with it.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"
#include "serial.h"

enum {
    BURST_NS = 1000000,
    AWAY_RETRY_MS = 100, /* how often to look whether a terminal has come back */
    CHUNK_SIZE = 4096,   /* one write() */
    FLUSH_CHUNKS = SERIAL_TX_SIZE / CHUNK_SIZE, /* then look at requests again */
};

/* epoll tags, and what is to be looked at. */
enum { READY_KICK = 1, READY_TIMER = 2, READY_INPUT = 4, READY_OUTPUT = 8, READY_ALL = 15 };

void serial_io_arm(struct serial *serial)
{
    const struct itimerspec burst = {.it_value.tv_nsec = BURST_NS};

    timerfd_settime(serial->io.timer, 0, &burst, NULL);
}

void serial_io_kick(struct serial *serial)
{
    eventfd_write(serial->io.kick, 1);
}

/* ---- the thread ------------------------------------------------------------ */

/* The endpoint reached its end, with `cause` 0, or failed with -errno. */
static void serial_io_lost(struct serial *serial, struct serial_endpoint *endpoint, ssize_t cause)
{
    struct serial_io *io = &serial->io;
    bool input = endpoint == &io->input;

    /* EIO: nobody has a pty's slave open, or this process is in its terminal's background. */
    if (cause == -EIO &&
        (endpoint->kind == SERIAL_PTY_MASTER || (input && endpoint->kind == SERIAL_TTY))) {
        endpoint->away = true;
        return;
    }
    endpoint->over = true;
    /* A file just ends, and so does what is typed into a terminal; a socket that has only
     * shut down its sending side still listens, and says so when it does not. */
    if (input && cause == 0 &&
        (endpoint->kind == SERIAL_FILE || endpoint->kind == SERIAL_TTY ||
         (endpoint->kind == SERIAL_SOCKET && io->output.kind == SERIAL_SOCKET &&
          serial_endpoint_usable(&io->output))))
        return;
    if (io->hangup_told)
        return;
    io->hangup_told = true;
    machine_event(serial->device.vm, KVMSHIM_EVENT_SERIAL_HANGUP, "serial");
}

/* Copy the oldest bytes of the ring. */
static uint32_t serial_ring_peek(const struct serial_ring *ring, uint8_t *data, uint32_t size)
{
    uint32_t first = SERIAL_TX_SIZE - ring->head;

    if (size > ring->count)
        size = ring->count;
    if (first > size)
        first = size;
    memcpy(data, ring->bytes + ring->head, first);
    memcpy(data + first, ring->bytes, size - first);
    return size;
}

/* Write what the peer takes, up to all the ring holds. The lock is not held while writing. */
static void serial_io_flush(struct serial *serial)
{
    struct serial_io *io = &serial->io;
    uint8_t chunk[CHUNK_SIZE];

    io->blocked = false;
    for (int i = 0; i < FLUSH_CHUNKS; i++) {
        uint32_t epoch, size;
        ssize_t count;

        if (io->paused || !serial_endpoint_usable(&io->output))
            return;
        pthread_mutex_lock(&serial->lock);
        epoch = serial->tx_epoch;
        size = serial_ring_peek(&serial->tx, chunk, sizeof(chunk));
        pthread_mutex_unlock(&serial->lock);
        if (size == 0)
            return;

        count = serial_endpoint_write(&io->output, chunk, size);
        if (count == 0 || count == -EAGAIN)
            break;
        if (count < 0) {
            serial_io_lost(serial, &io->output, count);
            return;
        }
        pthread_mutex_lock(&serial->lock);
        serial->transmitted += (uint64_t)count;
        if (epoch == serial->tx_epoch) {
            serial->tx.head = (serial->tx.head + (uint32_t)count) % SERIAL_TX_SIZE;
            serial->tx.count -= (uint32_t)count;
            serial_update(serial);
        }
        pthread_mutex_unlock(&serial->lock);
    }
    io->blocked = true;
}

/* Fill the RX FIFO. The lock is held throughout, so that its room does not change. */
static void serial_io_fill(struct serial *serial)
{
    struct serial_io *io = &serial->io;
    uint8_t data[SERIAL_FIFO_SIZE];
    ssize_t count = 1;
    uint32_t room;

    if (io->paused || !serial_endpoint_usable(&io->input))
        return;
    pthread_mutex_lock(&serial->lock);
    while (count > 0 && (room = serial_rx_room(serial)) > 0) {
        count = serial_endpoint_read(&io->input, data, room);
        for (ssize_t i = 0; i < count; i++)
            serial_receive(serial, data[i]);
    }
    serial_update(serial);
    pthread_mutex_unlock(&serial->lock);
    if (count <= 0 && count != -EAGAIN)
        serial_io_lost(serial, &io->input, count);
}

/* Wait for `interest` on the endpoint; errors and hangups are always reported. */
static void serial_io_watch(struct serial_io *io, struct serial_endpoint *endpoint, uint32_t tag,
                            uint32_t interest)
{
    struct epoll_event event = {.events = interest, .data.u32 = tag};

    if (endpoint->kind == SERIAL_FILE || (endpoint->registered && endpoint->interest == interest))
        return;
    if (epoll_ctl(io->epoll, endpoint->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, endpoint->fd,
                  &event) == 0) {
        endpoint->registered = true;
        endpoint->interest = interest;
    } else {
        endpoint->away = true; /* the kernel is short of memory: try again later */
    }
}

/* A hangup is reported without end: what is not to be acted upon is taken out. */
static void serial_io_unwatch(struct serial_io *io, struct serial_endpoint *endpoint)
{
    if (endpoint->registered)
        epoll_ctl(io->epoll, EPOLL_CTL_DEL, endpoint->fd, NULL);
    endpoint->registered = false;
}

/* Tell the chip whether somebody is there. What it kept for him armed no timer. */
static void serial_io_set_taker(struct serial *serial)
{
    struct serial_io *io = &serial->io;
    bool taker = serial_endpoint_usable(&io->output);

    pthread_mutex_lock(&serial->lock);
    if (taker && !serial->taker && serial->tx.count > 0)
        io->blocked = true;
    serial->taker = taker;
    serial_update(serial);
    pthread_mutex_unlock(&serial->lock);
}

/* Say what to wait for, and return how long. */
static int serial_io_prepare(struct serial *serial)
{
    struct serial_io *io = &serial->io;
    bool reads = serial_endpoint_usable(&io->input) && !io->paused;
    bool writes;

    pthread_mutex_lock(&serial->lock);
    serial->rx_waits = reads && serial_rx_room(serial) == 0;
    reads = reads && !serial->rx_waits;
    pthread_mutex_unlock(&serial->lock);
    serial_io_set_taker(serial);
    writes = io->blocked && serial_endpoint_usable(&io->output) && !io->paused;

    if (reads)
        serial_io_watch(io, &io->input, READY_INPUT, EPOLLIN);
    else
        serial_io_unwatch(io, &io->input);
    if (serial_endpoint_usable(&io->output))
        serial_io_watch(io, &io->output, READY_OUTPUT, writes ? EPOLLOUT : 0);
    else
        serial_io_unwatch(io, &io->output);

    if ((reads && io->input.kind == SERIAL_FILE) || (writes && io->output.kind == SERIAL_FILE))
        return 0;
    return io->input.away || io->output.away ? AWAY_RETRY_MS : -1;
}

static uint32_t serial_io_wait(struct serial *serial, int timeout_ms)
{
    struct serial_io *io = &serial->io;
    struct epoll_event events[4];
    int count = epoll_wait(io->epoll, events, 4, timeout_ms);
    uint32_t ready = timeout_ms == 0 ? READY_INPUT | READY_OUTPUT : 0;
    uint64_t drained;

    for (int i = 0; i < count; i++) {
        ready |= events[i].data.u32;
        if (events[i].data.u32 == READY_OUTPUT && (events[i].events & (EPOLLERR | EPOLLHUP)))
            serial_io_lost(serial, &io->output,
                           io->output.kind == SERIAL_PTY_MASTER ? -EIO : -EPIPE);
    }
    if ((ready & READY_KICK) && eventfd_read(io->kick, &drained) == 0)
        ready |= READY_ALL;
    if ((ready & READY_TIMER) && read(io->timer, &drained, sizeof(drained)) > 0)
        ready |= READY_OUTPUT;
    if (io->input.away && serial_endpoint_returned(&io->input)) {
        io->input.away = false;
        ready |= READY_INPUT;
    }
    if (io->output.away && serial_endpoint_returned(&io->output)) {
        io->output.away = false;
        ready |= READY_OUTPUT;
    }
    return ready;
}

/* The next endpoints in place of the present ones, which have their flags back before the
 * next take theirs: they may be the same file. */
static void serial_io_replace(struct serial *serial)
{
    struct serial_io *io = &serial->io;

    serial_io_unwatch(io, &io->output);
    serial_io_unwatch(io, &io->input);
    serial_endpoint_close(&io->output);
    serial_endpoint_close(&io->input);
    io->input = io->next_input;
    io->output = io->next_output;
    io->hangup_told = false;
    serial_endpoint_activate(&io->input);
    serial_endpoint_activate(&io->output);
    serial_io_set_taker(serial);
}

/* Serve the request, if there is one; returns it. */
static enum serial_request serial_io_serve(struct serial *serial)
{
    struct serial_io *io = &serial->io;
    enum serial_request request;

    pthread_mutex_lock(&serial->lock);
    request = io->request;
    pthread_mutex_unlock(&serial->lock);
    switch (request) {
    case SERIAL_NOTHING:
        return request;
    case SERIAL_ATTACH:
    case SERIAL_STOP:
        serial_io_flush(serial);
        serial_io_replace(serial);
        break;
    case SERIAL_PAUSE:
        serial_io_flush(serial);
        io->paused = true;
        break;
    case SERIAL_RESUME:
        io->paused = false;
        break;
    }
    io->blocked = true; /* what the ring holds may go now, to whom it could not before */
    pthread_mutex_lock(&serial->lock);
    io->request = SERIAL_NOTHING;
    pthread_cond_broadcast(&io->done);
    pthread_mutex_unlock(&serial->lock);
    return request;
}

static void *serial_io_main(void *opaque)
{
    struct serial *serial = opaque;

    while (serial_io_serve(serial) != SERIAL_STOP) {
        uint32_t ready = serial_io_wait(serial, serial_io_prepare(serial));

        if (ready & READY_OUTPUT)
            serial_io_flush(serial);
        if (ready & READY_INPUT)
            serial_io_fill(serial);
    }
    return NULL;
}

/* ---- its callers ----------------------------------------------------------- */

static void serial_io_submit(struct serial *serial, enum serial_request request,
                             const struct serial_endpoint *input,
                             const struct serial_endpoint *output)
{
    struct serial_io *io = &serial->io;

    pthread_mutex_lock(&io->request_lock);
    pthread_mutex_lock(&serial->lock);
    io->next_input = *input;
    io->next_output = *output;
    io->request = request;
    serial_io_kick(serial);
    while (io->request != SERIAL_NOTHING)
        pthread_cond_wait(&io->done, &serial->lock);
    pthread_mutex_unlock(&serial->lock);
    pthread_mutex_unlock(&io->request_lock);
}

static const struct serial_endpoint unconnected = {.fd = -1, .restore = -1};

void serial_io_request(struct serial *serial, enum serial_request request)
{
    serial_io_submit(serial, request, &unconnected, &unconnected);
}

int serial_io_attach(struct serial *serial, int input, int output, kvmshim_error *err)
{
    struct serial_endpoint from, to;
    int rc;

    rc = serial_endpoint_open(&from, input, SERIAL_INPUT, err);
    if (rc < 0)
        return rc;
    rc = serial_endpoint_open(&to, output, SERIAL_OUTPUT, err);
    if (rc < 0) {
        serial_endpoint_close(&from);
        return rc;
    }
    serial_io_submit(serial, SERIAL_ATTACH, &from, &to);
    return 0;
}

static int serial_io_watch_own(struct serial_io *io, int fd, uint32_t tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};

    return epoll_ctl(io->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int serial_io_spawn(struct serial *serial)
{
    sigset_t all, old;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&serial->io.thread, NULL, serial_io_main, serial);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return -rc;
    pthread_setname_np(serial->io.thread, "serial-io");
    return 0;
}

int serial_io_start(struct serial *serial, kvmshim_error *err)
{
    struct serial_io *io = &serial->io;
    const char *step = "create epoll, eventfd and timerfd";
    int rc;

    io->input = unconnected;
    io->output = unconnected;
    pthread_mutex_init(&io->request_lock, NULL);
    pthread_cond_init(&io->done, NULL);
    io->epoll = epoll_create1(EPOLL_CLOEXEC);
    io->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    io->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (io->epoll < 0 || io->kick < 0 || io->timer < 0) {
        rc = -errno;
        goto unwind;
    }
    step = "watch eventfd and timerfd";
    rc = serial_io_watch_own(io, io->kick, READY_KICK);
    if (rc == 0)
        rc = serial_io_watch_own(io, io->timer, READY_TIMER);
    if (rc < 0)
        goto unwind;
    step = "start the I/O thread";
    rc = serial_io_spawn(serial);
    if (rc < 0)
        goto unwind;
    return 0;

unwind:
    if (io->timer >= 0)
        close(io->timer);
    if (io->kick >= 0)
        close(io->kick);
    if (io->epoll >= 0)
        close(io->epoll);
    pthread_cond_destroy(&io->done);
    pthread_mutex_destroy(&io->request_lock);
    return error_set(err, rc, "serial: %s", step);
}

void serial_io_stop(struct serial *serial)
{
    struct serial_io *io = &serial->io;

    serial_io_request(serial, SERIAL_STOP);
    pthread_join(io->thread, NULL);
    close(io->timer);
    close(io->kick);
    close(io->epoll);
    pthread_cond_destroy(&io->done);
    pthread_mutex_destroy(&io->request_lock);
}
