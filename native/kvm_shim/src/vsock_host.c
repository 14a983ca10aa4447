/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sockets are watched for edges in an epoll of their own: one handler of the device's
 * thread sees to all that happened at once, and a socket that the guest has no room for costs
 * nothing until it has.
 */
#include "vsock_host.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"

enum {
    EVENTS = 64,      /* looked at together */
    ACCEPTS = 64,     /* of a flood of clients, before others have their turn */
    GREETING_MAX = 32,
};

#define PATIENCE_NS 2000000000ull
#define RETRY_NS 10000000ull

#define EDGES (EPOLLIN | EPOLLRDHUP | EPOLLET)

/* ---- time ------------------------------------------------------------------------ */

static void vsock_host_arm(struct vsock_mux *mux)
{
    const struct vsock_connection *first = TAILQ_FIRST(&mux->waiting);
    uint64_t now = machine_now_ns();
    uint64_t next = first == NULL ? UINT64_MAX : first->deadline_ns;
    struct itimerspec alarm = {.it_value.tv_sec = 0};

    if (mux->retry && next > now + RETRY_NS)
        next = now + RETRY_NS;
    if (next >= mux->alarm_ns)
        return;
    mux->alarm_ns = next;
    next = next > now ? next - now : 1;
    alarm.it_value.tv_sec = (time_t)(next / 1000000000);
    alarm.it_value.tv_nsec = (long)(next % 1000000000);
    timerfd_settime(mux->timer_fd, 0, &alarm, NULL);
}

void vsock_host_wait_over(struct vsock_mux *mux, struct vsock_connection *connection)
{
    if (connection->is_waiting)
        TAILQ_REMOVE(&mux->waiting, connection, waiting);
    connection->is_waiting = false;
}

/* All wait equally long, so who came last is the last. */
void vsock_host_wait(struct vsock_mux *mux, struct vsock_connection *connection)
{
    vsock_host_wait_over(mux, connection);
    connection->deadline_ns = machine_now_ns() + PATIENCE_NS;
    connection->is_waiting = true;
    TAILQ_INSERT_TAIL(&mux->waiting, connection, waiting);
    vsock_host_arm(mux);
}

static void vsock_host_retry(struct vsock_mux *mux)
{
    mux->retry = true;
    vsock_host_arm(mux);
}

void vsock_host_resume(struct vsock_mux *mux)
{
    uint64_t deadline = machine_now_ns() + PATIENCE_NS;
    struct vsock_connection *connection;

    TAILQ_FOREACH(connection, &mux->waiting, waiting)
        connection->deadline_ns = deadline;
}

static void vsock_host_watch_listener(struct vsock_mux *mux, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = &mux->listener};

    epoll_ctl(mux->epoll_fd, EPOLL_CTL_MOD, mux->listener, &event);
}

static void vsock_host_tick(struct vsock_mux *mux)
{
    uint64_t now = machine_now_ns(), expirations;
    struct vsock_connection *connection, *next;

    if (read(mux->timer_fd, &expirations, sizeof(expirations)) < 0)
        return;
    mux->alarm_ns = UINT64_MAX;
    while ((connection = TAILQ_FIRST(&mux->waiting)) != NULL && connection->deadline_ns <= now) {
        if (connection->state != VSOCK_CLOSING)
            mux->refused++;
        if (connection->state == VSOCK_GREETING)
            vsock_mux_drop(mux, connection);
        else
            vsock_mux_reset(mux, connection);
    }
    if (mux->retry) {
        mux->retry = false;
        vsock_host_watch_listener(mux, EPOLLIN);
        for (connection = TAILQ_FIRST(&mux->waiting); connection != NULL; connection = next) {
            next = TAILQ_NEXT(connection, waiting);
            if (connection->state == VSOCK_CONNECTING)
                vsock_host_connect(mux, connection);
        }
    }
    vsock_host_arm(mux);
}

/* ---- sockets --------------------------------------------------------------------- */

static int vsock_host_watch(struct vsock_mux *mux, struct vsock_connection *connection)
{
    struct epoll_event event = {.events = EDGES, .data.ptr = connection};

    return epoll_ctl(mux->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) < 0 ? -errno : 0;
}

void vsock_host_watch_room(struct vsock_mux *mux, struct vsock_connection *connection)
{
    bool wants = connection->buffered > 0;
    struct epoll_event event = {
        .events = EDGES | (wants ? (uint32_t)EPOLLOUT : 0),
        .data.ptr = connection,
    };

    if (connection->fd < 0 || wants == connection->wants_room)
        return;
    connection->wants_room = wants;
    epoll_ctl(mux->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

/* ---- from the guest to a server ---------------------------------------------------- */

static int vsock_host_dial(struct vsock_mux *mux, struct vsock_connection *connection)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", mux->path,
             connection->host_port);
    if (connection->fd < 0)
        connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 ||
        connect(connection->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return vsock_host_watch(mux, connection);
}

void vsock_host_connect(struct vsock_mux *mux, struct vsock_connection *connection)
{
    int rc = vsock_host_dial(mux, connection);

    if (rc == 0) {
        vsock_mux_establish(mux, connection);
        connection->pending |= 1u << VIRTIO_VSOCK_OP_RESPONSE;
        vsock_mux_update(mux, connection);
    } else if (rc == -EAGAIN || rc == -EINTR) { /* its backlog is full */
        if (!connection->is_waiting)
            vsock_host_wait(mux, connection);
        vsock_host_retry(mux);
    } else {
        /* A guest may look for servers that are not there; all else is news. */
        if (rc != -ENOENT && rc != -ECONNREFUSED)
            virtio_log(mux->virtio, "cannot connect the guest to %s_%u: %s", mux->path,
                       connection->host_port, strerrordesc_np(-rc));
        mux->refused++;
        vsock_mux_reset(mux, connection);
    }
}

/* ---- from a client to the guest ---------------------------------------------------- */

static void vsock_host_accept(struct vsock_mux *mux)
{
    for (int i = 0; i < ACCEPTS; i++) {
        int fd = accept4(mux->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct vsock_connection *connection;

        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && errno == EAGAIN)
            return;
        if (fd < 0) {
            virtio_log(mux->virtio, "cannot accept a client of %s: %s", mux->path,
                       strerrordesc_np(errno));
            vsock_host_watch_listener(mux, 0);
            vsock_host_retry(mux);
            return;
        }
        connection = vsock_mux_open(mux);
        if (connection == NULL) {
            close(fd);
            continue;
        }
        connection->fd = fd;
        vsock_host_wait(mux, connection);
        if (vsock_host_watch(mux, connection) < 0) {
            mux->refused++;
            vsock_mux_drop(mux, connection);
        }
    }
}

/* "CONNECT <port>", in whatever case, perhaps with spaces or a carriage return at its end. */
static bool vsock_host_parse(const char *line, size_t length, uint32_t *port)
{
    static const char verb[] = "CONNECT ";
    size_t at = sizeof(verb) - 1;
    uint64_t number = 0;

    if (length <= at || strncasecmp(line, verb, at) != 0 || !isdigit((unsigned char)line[at]))
        return false;
    for (; at < length && isdigit((unsigned char)line[at]) && number <= UINT32_MAX; at++)
        number = number * 10 + (uint64_t)(line[at] - '0');
    while (at < length && (line[at] == ' ' || line[at] == '\r'))
        at++;
    *port = (uint32_t)number;
    return at == length && number <= UINT32_MAX;
}

/* Take the line out of the socket, where it was only looked at. */
static bool vsock_host_consume(int fd, size_t size)
{
    char line[GREETING_MAX];

    while (size > 0) {
        ssize_t got = recv(fd, line, size, MSG_DONTWAIT);

        if (got <= 0 && !(got < 0 && errno == EINTR))
            return false;
        if (got > 0)
            size -= (size_t)got;
    }
    return true;
}

static void vsock_host_request(struct vsock_mux *mux, struct vsock_connection *connection,
                               uint32_t guest_port)
{
    uint32_t host_port;

    do {
        host_port = mux->next_port;
        mux->next_port =
            host_port == VSOCK_HOST_PORT_LAST ? VSOCK_HOST_PORT_FIRST : host_port + 1;
    } while (vsock_mux_find(mux, host_port, guest_port) != NULL);
    vsock_mux_insert(mux, connection, host_port, guest_port);
    connection->state = VSOCK_REQUESTED;
    connection->pending = 1u << VIRTIO_VSOCK_OP_REQUEST;
    vsock_host_wait(mux, connection);
    vsock_mux_update(mux, connection);
}

/* What comes after the line is the guest's and stays in the socket, and so does a part of a
 * line: there is nothing to keep for a client that did not say yet what it wants. */
static void vsock_host_greeted(struct vsock_mux *mux, struct vsock_connection *connection)
{
    char line[GREETING_MAX];
    const char *end = NULL;
    uint32_t port;
    ssize_t got;

    do {
        got = recv(connection->fd, line, sizeof(line), MSG_PEEK | MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got > 0)
        end = memchr(line, '\n', (size_t)got);
    if (end == NULL && got < GREETING_MAX && !connection->ending)
        return;
    if (end != NULL && vsock_host_parse(line, (size_t)(end - line), &port) &&
        vsock_host_consume(connection->fd, (size_t)(end - line) + 1)) {
        vsock_host_request(mux, connection, port);
        return;
    }
    mux->refused++;
    vsock_mux_drop(mux, connection);
}

void vsock_host_accepted(struct vsock_mux *mux, struct vsock_connection *connection)
{
    char line[GREETING_MAX];
    int size = snprintf(line, sizeof(line), "OK %u\n", connection->host_port);

    /* The first bytes in this direction: there is room, or nobody. */
    if (send(connection->fd, line, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL) != size) {
        mux->refused++;
        vsock_mux_reset(mux, connection);
        return;
    }
    vsock_mux_establish(mux, connection);
}

/* ---- all that happens ---------------------------------------------------------------- */

static void vsock_host_event(struct vsock_mux *mux, struct vsock_connection *connection,
                             uint32_t events)
{
    connection->readable = true;
    connection->ending |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    connection->hung_up |= (events & EPOLLHUP) != 0;
    if (connection->state == VSOCK_GREETING) {
        vsock_host_greeted(mux, connection);
    } else if (connection->state == VSOCK_REQUESTED && connection->hung_up) {
        mux->refused++;
        vsock_mux_reset(mux, connection);
    } else if (connection->state == VSOCK_ESTABLISHED) {
        if (connection->buffered > 0 && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
            vsock_mux_flush(mux, connection);
        /* Otherwise its bytes come first, and then its end. */
        if (connection->hung_up && connection->state == VSOCK_ESTABLISHED &&
            ((connection->host_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND) ||
             (connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)))
            vsock_mux_shut_down(mux, connection, VSOCK_SHUTDOWN_BOTH);
        vsock_mux_update(mux, connection);
    }
}

void vsock_host_poll(struct vsock_mux *mux)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(mux->epoll_fd, events, EVENTS, 0);

    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == &mux->listener)
            vsock_host_accept(mux);
        else if (events[i].data.ptr == &mux->timer_fd)
            vsock_host_tick(mux);
        else
            vsock_host_event(mux, events[i].data.ptr, events[i].events);
    }
    vsock_mux_bury(mux);
}

static int vsock_host_set_up(struct vsock_mux *mux, int listener)
{
    struct epoll_event event = {.events = EPOLLIN};
    int flags;

    mux->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    mux->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    mux->listener = fcntl(listener, F_DUPFD_CLOEXEC, 0);
    if (mux->epoll_fd < 0 || mux->timer_fd < 0 || mux->listener < 0)
        return -errno;
    /* Whoever listens elsewhere with the same description must not block either. */
    flags = fcntl(mux->listener, F_GETFL);
    if (flags < 0 || fcntl(mux->listener, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    event.data.ptr = &mux->timer_fd;
    if (epoll_ctl(mux->epoll_fd, EPOLL_CTL_ADD, mux->timer_fd, &event) < 0)
        return -errno;
    event.data.ptr = &mux->listener;
    if (epoll_ctl(mux->epoll_fd, EPOLL_CTL_ADD, mux->listener, &event) < 0)
        return -errno;
    return 0;
}

int vsock_host_open(struct vsock_mux *mux, int listener, const char *path, kvmshim_error *err)
{
    int accepts = 0, rc;
    socklen_t length = sizeof(accepts);

    mux->epoll_fd = mux->timer_fd = mux->listener = -1;
    mux->alarm_ns = UINT64_MAX;
    if (strlen(path) > VSOCK_PATH_MAX)
        return error_set(err, -ENAMETOOLONG, "vsock: a socket at %s_<port>", path);
    memcpy(mux->path, path, strlen(path) + 1);
    if (getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &length) < 0)
        return error_set(err, -errno, "vsock: listener %d", listener);
    if (!accepts)
        return error_set(err, -EINVAL, "vsock: socket %d does not listen", listener);
    rc = vsock_host_set_up(mux, listener);
    if (rc < 0) {
        vsock_host_close(mux);
        return error_set(err, rc, "vsock: watch the listener");
    }
    return 0;
}

void vsock_host_close(struct vsock_mux *mux)
{
    if (mux->listener >= 0)
        close(mux->listener);
    if (mux->timer_fd >= 0)
        close(mux->timer_fd);
    if (mux->epoll_fd >= 0)
        close(mux->epoll_fd);
}
