/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port, with peers that come, talk, listen too little and go. */
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"

enum {
    TARGET_SOCKET = ACTION_TARGET, /* connect a socket pair */
    TARGET_PIPE,                   /* output to a pipe with little room, no input */
    TARGET_NULL,                   /* /dev/null: at its end at once, takes everything */
    TARGET_DETACH,
    TARGET_HANG_UP, /* close the peer's side */
    TARGET_TALK,    /* the peer sends up to 8 bytes */
    TARGET_LISTEN,  /* the peer takes what is there */
    TARGET_PAUSE,
    TARGET_RESUME,
};

struct line {
    kvmshim_device *serial;
    int peer;
};

static void hang_up(struct line *line)
{
    if (line->peer >= 0)
        close(line->peer);
    line->peer = -1;
}

/* The peer's side replaces the one before; ours is the device's alone. */
static void connect_line(struct line *line, int ours, int peer, int input)
{
    FUZZ_CHECK(kvmshim_serial_attach(line->serial, input, ours, NULL) == 0);
    close(ours);
    hang_up(line);
    line->peer = peer;
    if (peer >= 0)
        fcntl(peer, F_SETFL, O_NONBLOCK);
}

static void act(void *opaque, const struct fuzz_record *record)
{
    struct line *line = opaque;
    uint8_t buffer[65536];
    int ends[2];

    switch (record->action) {
    case TARGET_SOCKET:
        FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        connect_line(line, ends[0], ends[1], ends[0]);
        break;
    case TARGET_PIPE:
        FUZZ_CHECK(pipe2(ends, O_CLOEXEC) == 0);
        fcntl(ends[0], F_SETPIPE_SZ, 4096);
        connect_line(line, ends[1], ends[0], -1);
        break;
    case TARGET_NULL:
        ends[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
        FUZZ_CHECK(ends[0] >= 0);
        connect_line(line, ends[0], -1, ends[0]);
        break;
    case TARGET_DETACH:
        FUZZ_CHECK(kvmshim_serial_detach(line->serial, NULL) == 0);
        break;
    case TARGET_HANG_UP:
        hang_up(line);
        break;
    case TARGET_TALK:
        if (line->peer >= 0)
            send(line->peer, record->data, record->region % 9, MSG_NOSIGNAL);
        break;
    case TARGET_LISTEN:
        if (line->peer >= 0)
            (void)!read(line->peer, buffer, sizeof(buffer));
        break;
    case TARGET_PAUSE:
        line->serial->ops->pause(line->serial, UINT64_MAX);
        break;
    case TARGET_RESUME:
        line->serial->ops->resume(line->serial);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kvmshim_vm vm = {0};
    struct line line = {.peer = -1};
    kvmshim_counter entries[8];
    struct counters counters = {.entries = entries, .capacity = 8};

    fuzz_begin(&vm);
    FUZZ_CHECK(kvmshim_serial_create(&vm, 0x3f8, 4, &line.serial, NULL) == 0);
    fuzz_play(&vm, data, size, act, &line);
    line.serial->ops->counters(line.serial, &counters);
    FUZZ_CHECK(counters.count <= counters.capacity);
    fuzz_end(&vm);
    hang_up(&line);
    return 0;
}
