/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's thread must never block, yet O_NONBLOCK belongs to the open file description,
 * which a duplicate shares with the caller, and a terminal's with the shell that started the
 * caller and every program of that shell. So:
 *
 *  - a socket is asked not to block in each call (MSG_DONTWAIT);
 *  - a regular file does not block;
 *  - a pipe, a terminal and other devices are opened anew through /proc/self/fd, which gives
 *    a description of our own;
 *  - a pty master cannot be (that would make another pty), and a file may not let itself be
 *    opened (a terminal of another user, no /proc): these get O_NONBLOCK on the shared
 *    description, and their old flags back at the end.
 */
#include "endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "error.h"

static bool is_pty_master(int fd)
{
    unsigned int number;

    return ioctl(fd, TIOCGPTN, &number) == 0;
}

/* epoll refuses what is always ready: regular files, /dev/null. */
static bool is_pollable(int fd)
{
    struct epoll_event event = {.events = 0};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    bool pollable = true;

    if (epoll < 0)
        return true;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 && errno == EPERM)
        pollable = false;
    close(epoll);
    return pollable;
}

static int endpoint_kind_of(int fd, enum endpoint_kind *kind, kvmshim_error *err)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return error_set(err, -errno, "fd %d", fd);
    if (S_ISSOCK(status.st_mode)) {
        socklen_t length = sizeof(int);
        int type = 0;

        /* Others keep message boundaries: reading with little room would lose bytes. */
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_STREAM)
            return error_set(err, -EINVAL, "socket %d is not a stream", fd);
        *kind = ENDPOINT_SOCKET;
    } else if (!is_pollable(fd)) {
        *kind = ENDPOINT_FILE;
    } else if (is_pty_master(fd)) {
        *kind = ENDPOINT_PTY_MASTER;
    } else if (isatty(fd)) {
        *kind = ENDPOINT_TTY;
    } else {
        *kind = ENDPOINT_PIPE;
    }
    return 0;
}

/*
 * A pty whose slave was never opened does not report a hangup, but buffers what is written
 * until it is full. One open and close puts it in the state of having no reader.
 */
static void touch_pty_slave(int master)
{
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);

    if (slave >= 0)
        close(slave);
}

/*
 * The last close of the slave resets its modes, and the first of them is to echo: the guest
 * would read its own output back. A master sets the slave's modes. A client that leaves and
 * comes back at once is never seen to be away, so this is asked whenever something is to pass.
 */
static void keep_pty_raw(int master)
{
    struct termios modes;

    if (tcgetattr(master, &modes) < 0 || !(modes.c_lflag & (ICANON | ECHO)))
        return;
    cfmakeraw(&modes);
    tcsetattr(master, TCSANOW, &modes);
}

int endpoint_open(struct endpoint *endpoint, int fd, enum endpoint_direction direction,
                  kvmshim_error *err)
{
    int wrong = direction == ENDPOINT_INPUT ? O_WRONLY : O_RDONLY;
    int mode = direction == ENDPOINT_INPUT ? O_RDONLY : O_WRONLY;
    char path[sizeof("/proc/self/fd/") + 11];
    int flags;
    int rc;

    *endpoint = (struct endpoint){.fd = -1, .restore = -1};
    if (fd < 0)
        return 0;
    flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return error_set(err, -errno, "fd %d", fd);
    if ((flags & O_ACCMODE) == wrong)
        return error_set(err, -EINVAL, "fd %d is not open for %s", fd,
                         direction == ENDPOINT_INPUT ? "reading" : "writing");
    rc = endpoint_kind_of(fd, &endpoint->kind, err);
    if (rc < 0)
        return rc;

    if (endpoint->kind == ENDPOINT_PIPE || endpoint->kind == ENDPOINT_TTY) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        endpoint->fd = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    if (endpoint->fd < 0) {
        endpoint->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (endpoint->fd < 0)
            return error_set(err, -errno, "duplicate fd %d", fd);
        endpoint->shared = endpoint->kind != ENDPOINT_SOCKET && endpoint->kind != ENDPOINT_FILE;
    }
    if (endpoint->kind == ENDPOINT_PTY_MASTER)
        touch_pty_slave(endpoint->fd);
    return 0;
}

void endpoint_activate(struct endpoint *endpoint)
{
    int flags;

    if (endpoint->fd < 0 || !endpoint->shared)
        return;
    flags = fcntl(endpoint->fd, F_GETFL);
    if (flags >= 0 && !(flags & O_NONBLOCK) &&
        fcntl(endpoint->fd, F_SETFL, flags | O_NONBLOCK) == 0)
        endpoint->restore = flags;
}

void endpoint_close(struct endpoint *endpoint)
{
    if (endpoint->fd < 0)
        return;
    if (endpoint->restore >= 0)
        fcntl(endpoint->fd, F_SETFL, endpoint->restore);
    close(endpoint->fd);
    *endpoint = (struct endpoint){.fd = -1, .restore = -1};
}

ssize_t endpoint_read(const struct endpoint *endpoint, void *data, size_t size)
{
    ssize_t count;

    if (endpoint->kind == ENDPOINT_PTY_MASTER)
        keep_pty_raw(endpoint->fd);
    do {
        count = endpoint->kind == ENDPOINT_SOCKET ? recv(endpoint->fd, data, size, MSG_DONTWAIT)
                                                : read(endpoint->fd, data, size);
    } while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

ssize_t endpoint_write(const struct endpoint *endpoint, const void *data, size_t size)
{
    ssize_t count;

    if (endpoint->kind == ENDPOINT_PTY_MASTER)
        keep_pty_raw(endpoint->fd);
    do {
        count = endpoint->kind == ENDPOINT_SOCKET
                    ? send(endpoint->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                    : write(endpoint->fd, data, size);
    } while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

bool endpoint_returned(const struct endpoint *endpoint)
{
    struct pollfd status = {.fd = endpoint->fd};

    if (poll(&status, 1, 0) < 0 || (status.revents & POLLHUP))
        return false;
    if (endpoint->kind == ENDPOINT_PTY_MASTER)
        keep_pty_raw(endpoint->fd);
    return true;
}

bool endpoint_window(const struct endpoint *endpoint, struct winsize *window)
{
    return endpoint->kind == ENDPOINT_PTY_MASTER && endpoint_usable(endpoint) &&
           ioctl(endpoint->fd, TIOCGWINSZ, window) == 0;
}
