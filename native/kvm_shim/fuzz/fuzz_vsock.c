/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device between a guest that sends what it likes and peers on the host that
 * connect, talk, listen and leave. Time is the input's: the timer is an eventfd that it
 * makes ready. Sockets take little at once, so that the device has to keep the rest.
 */
#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtio.h"

enum {
    TARGET_HEADER = ACTION_TARGET, /* a packet's header at FUZZ_BUFFERS + 256 * offset's byte */
    TARGET_CLIENT,                 /* a client asks for port data[0] */
    TARGET_GARBAGE,                /* a client says up to 8 bytes of its own */
    TARGET_ACCEPT,                 /* the server takes who waits */
    TARGET_TALK,                   /* a peer sends 1 << data[0] bytes */
    TARGET_LISTEN,                 /* a peer takes 1 << data[0] bytes */
    TARGET_SHUT_DOWN,              /* a peer shuts down data[0] % 3 */
    TARGET_HANG_UP,
    TARGET_PASS,                   /* a peer sends a descriptor with two bytes */
    TARGET_ALARM,
    TARGET_STOP_SERVER,

    CID = 3,
    SERVER_PORT = 1,
    PEERS = 8,
};

struct world {
    kvmshim_vm *vm;
    int listener, server;
    int peers[PEERS];
};

static char directory[] = "/tmp/fuzz_vsock_XXXXXX";
static int timer = -1;

int timerfd_create(int clock, int flags)
{
    FUZZ_CHECK(clock == CLOCK_MONOTONIC);
    timer = eventfd(0, (flags & TFD_NONBLOCK ? EFD_NONBLOCK : 0) | EFD_CLOEXEC);
    return timer;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *when, struct itimerspec *before)
{
    FUZZ_CHECK(fd == timer && flags == 0 && before == NULL);
    FUZZ_CHECK(when->it_value.tv_nsec < 1000000000 &&
               (when->it_value.tv_sec || when->it_value.tv_nsec));
    return 0;
}

static int little(int fd)
{
    static const int size = 1; /* the least there is: a few KiB */

    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    return fd;
}

int socket(int domain, int type, int protocol)
{
    return little((int)syscall(SYS_socket, domain, type, protocol));
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    return little((int)syscall(SYS_accept4, fd, address, length, flags));
}

static void clean_up(void)
{
    rmdir(directory);
}

static struct sockaddr_un address_of(const char *suffix)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/v%s", directory, suffix);
    return address;
}

static int listen_at(const char *suffix, int backlog)
{
    struct sockaddr_un address = address_of(suffix);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    FUZZ_CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    FUZZ_CHECK(listen(fd, backlog) == 0);
    return fd;
}

static void unlisten(int fd, const char *suffix)
{
    struct sockaddr_un address = address_of(suffix);

    if (fd < 0)
        return;
    unlink(address.sun_path);
    close(fd);
}

/* Takes the place of the peer before. */
static void join(struct world *world, uint8_t number, int fd)
{
    int *peer = &world->peers[number % PEERS];

    if (*peer >= 0)
        close(*peer);
    *peer = fd;
}

static void connect_client(struct world *world, uint8_t number, const void *line, size_t size)
{
    struct sockaddr_un address = address_of("");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd); /* the backlog is full */
        return;
    }
    send(fd, line, size, MSG_NOSIGNAL);
    join(world, number, fd);
}

/* A packet that nearly makes sense: few ports, every operation, lengths and credits as the
 * data says. */
static void place_header(struct world *world, const struct fuzz_record *record)
{
    const uint8_t *data = record->data;
    const struct virtio_vsock_hdr header = {
        .src_cid = data[0] == 0xff ? 0xffffffffffULL : CID,
        .dst_cid = data[1] == 0xff ? 7 : 2,
        .src_port = data[0] % 4,
        .dst_port = data[1] % 4 == 0 ? SERVER_PORT : (1u << 30) + data[1] % 8,
        .len = (uint32_t)data[2] << data[3] % 20,
        .type = data[4] >> 4 == 0xf ? data[4] : VIRTIO_VSOCK_TYPE_STREAM,
        .op = data[4] % 16,
        .flags = data[5],
        .buf_alloc = (uint32_t)data[6] << data[3] / 16,
        .fwd_cnt = (uint32_t)data[7] << data[3] / 16,
    };

    fuzz_poke(world->vm, FUZZ_BUFFERS + 256 * (record->offset % 256), &header, sizeof(header));
}

static void pass_descriptor(int peer)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec iov = {"fd", 2};
    const struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };

    memcpy(CMSG_DATA(&control.header), &peer, sizeof(peer));
    sendmsg(peer, &message, MSG_NOSIGNAL);
}

static void act(void *opaque, const struct fuzz_record *record)
{
    static uint8_t buffer[1 << 18];
    struct world *world = opaque;
    int peer = world->peers[record->region % PEERS];
    char line[32];

    switch (record->action) {
    case TARGET_HEADER:
        place_header(world, record);
        break;
    case TARGET_CLIENT:
        connect_client(world, record->region, line,
                       (size_t)snprintf(line, sizeof(line), "CONNECT %u\n", record->data[0] % 4));
        break;
    case TARGET_GARBAGE:
        connect_client(world, record->region, record->data, record->offset % 9);
        break;
    case TARGET_ACCEPT:
        if (world->server >= 0)
            join(world, record->region, accept4(world->server, NULL, NULL, SOCK_NONBLOCK));
        break;
    case TARGET_TALK:
        if (peer >= 0)
            send(peer, buffer, 1u << record->data[0] % 18, MSG_NOSIGNAL);
        break;
    case TARGET_LISTEN:
        if (peer >= 0)
            (void)!read(peer, buffer, 1u << record->data[0] % 18);
        break;
    case TARGET_SHUT_DOWN:
        if (peer >= 0)
            shutdown(peer, record->data[0] % 3);
        break;
    case TARGET_HANG_UP:
        join(world, record->region, -1);
        break;
    case TARGET_PASS:
        if (peer >= 0)
            pass_descriptor(peer);
        break;
    case TARGET_ALARM:
        eventfd_write(timer, 1);
        break;
    case TARGET_STOP_SERVER:
        unlisten(world->server, "_1");
        world->server = -1;
        break;
    default:
        break;
    }
}

static void count(kvmshim_device *device)
{
    kvmshim_counter entries[32];
    struct counters counters = {.entries = entries, .capacity = 32};

    device->ops->counters(device, &counters);
    FUZZ_CHECK(counters.count < 32);
    for (uint32_t i = 0; i < counters.count; i++)
        if (strcmp(entries[i].name, "connections") == 0)
            FUZZ_CHECK(entries[i].value <= 1023);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    FUZZ_CHECK(*argc > 0 && argv && mkdtemp(directory));
    atexit(clean_up);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kvmshim_vm vm = {0};
    struct world world = {.vm = &vm, .listener = listen_at("", 64), .server = listen_at("_1", 1)};
    struct sockaddr_un path = address_of("");
    kvmshim_device *device;
    kvmshim_place place;

    for (uint8_t i = 0; i < PEERS; i++)
        world.peers[i] = -1;
    fuzz_virtio_begin(&vm);
    place = fuzz_place(&vm, 1);
    FUZZ_CHECK(kvmshim_vsock_create(&vm, &place, CID, world.listener, path.sun_path, &device,
                                    NULL) == 0);
    fuzz_virtio_ready(&vm, device, size ? data[0] * UINT64_C(0x0101010101010101) : 0);
    if (size)
        fuzz_virtio_play(&vm, device, data + 1, size - 1, act, &world);
    count(device);
    fuzz_end(&vm);
    for (uint8_t i = 0; i < PEERS; i++)
        join(&world, i, -1);
    unlisten(world.server, "_1");
    unlisten(world.listener, "");
    return 0;
}
