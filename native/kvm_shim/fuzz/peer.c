/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

void peer_hang_up(struct peer *peer)
{
    if (peer->fd >= 0)
        close(peer->fd);
    peer->fd = -1;
}

/* The peer's side replaces the one before; ours is the device's alone. */
static void attach(struct peer *peer, int ours, int theirs, int input)
{
    FUZZ_CHECK(peer->attach(peer->device, input, ours, NULL) == 0);
    close(ours);
    peer_hang_up(peer);
    peer->fd = theirs;
    if (theirs >= 0)
        fcntl(theirs, F_SETFL, O_NONBLOCK);
}

static void attach_socket(struct peer *peer)
{
    const int room = 1;
    int ends[2];

    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    attach(peer, ends[0], ends[1], ends[0]);
}

static void attach_pipe(struct peer *peer)
{
    int ends[2];

    FUZZ_CHECK(pipe2(ends, O_CLOEXEC) == 0);
    fcntl(ends[0], F_SETPIPE_SZ, 4096);
    attach(peer, ends[1], ends[0], -1);
}

static void attach_null(struct peer *peer)
{
    int ours = open("/dev/null", O_RDWR | O_CLOEXEC);

    FUZZ_CHECK(ours >= 0);
    attach(peer, ours, -1, ours);
}

static void attach_pty(struct peer *peer, const struct fuzz_record *record)
{
    const struct winsize window = {.ws_col = record->data[0], .ws_row = record->data[1]};
    int ours = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

    FUZZ_CHECK(ours >= 0 && unlockpt(ours) == 0);
    ioctl(ours, TIOCSWINSZ, &window);
    attach(peer, ours, ioctl(ours, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC), ours);
}

void peer_act(struct peer *peer, const struct fuzz_record *record)
{
    uint8_t buffer[65536];

    signal(SIGPIPE, SIG_IGN); /* a device's thread has it blocked */
    switch (record->action) {
    case PEER_SOCKET:
        attach_socket(peer);
        break;
    case PEER_PIPE:
        attach_pipe(peer);
        break;
    case PEER_NULL:
        attach_null(peer);
        break;
    case PEER_PTY:
        attach_pty(peer, record);
        break;
    case PEER_DETACH:
        FUZZ_CHECK(peer->attach(peer->device, -1, -1, NULL) == 0);
        break;
    case PEER_HANG_UP:
        peer_hang_up(peer);
        break;
    case PEER_TALK:
        if (peer->fd >= 0)
            (void)!write(peer->fd, record->data, record->region % 9);
        break;
    case PEER_LISTEN:
        if (peer->fd >= 0)
            (void)!read(peer->fd, buffer, sizeof(buffer));
        break;
    default:
        break;
    }
}
