/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <linux/virtio_vsock.h>
#include <net/if.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "races.h"

static kvmshim_device *create_rng(kvmshim_vm *vm, const kvmshim_place *place)
{
    kvmshim_device *device;

    REQUIRE(kvmshim_rng_create(vm, place, -1, NULL, &device, NULL) == 0);
    return device;
}

/* Held up by its limiter time and again. */
static kvmshim_device *create_limited_rng(kvmshim_vm *vm, const kvmshim_place *place)
{
    const kvmshim_bucket none = {.size = 0}, some = {.size = 4000, .refill_ms = 1000};
    kvmshim_device *device, *limiter;

    REQUIRE(kvmshim_limiter_create(vm, &none, &some, &limiter, NULL) == 0);
    REQUIRE(kvmshim_rng_create(vm, place, -1, limiter, &device, NULL) == 0);
    return device;
}

/* ---- disks, with io_uring and with threads ----------------------------------------- */

static int memory_file(void)
{
    int fd = memfd_create("races", MFD_CLOEXEC);

    REQUIRE(fd >= 0 && ftruncate(fd, 2 << 20) == 0);
    return fd;
}

static kvmshim_device *create_block(kvmshim_vm *vm, const kvmshim_place *place, uint8_t engine)
{
    const kvmshim_block_config config = {
        .fd = memory_file(), .sparse = 1, .engine = engine, .num_queues = 2, .queue_size = 64};
    kvmshim_device *device;

    REQUIRE(kvmshim_block_create(vm, place, &config, &device, NULL) == 0);
    close(config.fd);
    return device;
}

static kvmshim_device *create_block_uring(kvmshim_vm *vm, const kvmshim_place *place)
{
    return create_block(vm, place, KVMSHIM_BLOCK_AUTO);
}

static kvmshim_device *create_block_threads(kvmshim_vm *vm, const kvmshim_place *place)
{
    return create_block(vm, place, KVMSHIM_BLOCK_THREADS);
}

static const struct virtio_blk_outhdr read_sector = {.type = VIRTIO_BLK_T_IN, .sector = 5};
static const struct virtio_blk_outhdr flush = {.type = VIRTIO_BLK_T_FLUSH};

#define BLOCK_QUEUES                                                                              \
    .queue_count = 2, .queues = {                                                                 \
        {16, 512 + 1, &read_sector, sizeof(read_sector), true},                                   \
        {16, 1, &flush, sizeof(flush), true},                                                     \
    }

/* ---- a network of two pairs: frames come in, and the guest sets both to work ------------ */

static int net_station = -1; /* on the network of the device that is raced */

static void open_queue(int *tap, struct ifreq *request)
{
    *tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    request->ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
    REQUIRE(*tap >= 0 && ioctl(*tap, TUNSETIFF, request) == 0);
}

static kvmshim_device *create_net(kvmshim_vm *vm, const kvmshim_place *place)
{
    struct ifreq request = {.ifr_name = "races%d"};
    int taps[2];
    const kvmshim_net_config config = {.taps = taps,
                                       .queue_pairs = 2,
                                       .queue_size = 16,
                                       .mac = {2},
                                       .offload_csum = 1,
                                       .offload_tso = 1};
    int station = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
    kvmshim_device *device;

    open_queue(&taps[0], &request);
    open_queue(&taps[1], &request);
    request.ifr_flags = IFF_UP;
    REQUIRE(ioctl(station, SIOCSIFFLAGS, &request) == 0);
    REQUIRE(kvmshim_net_create(vm, place, &config, &device, NULL) == 0);
    close(taps[0]);
    close(taps[1]);
    if (net_station < 0) {
        const struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                            .sll_ifindex = (int)if_nametoindex(request.ifr_name)};

        REQUIRE(bind(station, (const struct sockaddr *)&address, sizeof(address)) == 0);
        net_station = station;
    } else {
        close(station);
    }
    return device;
}

static void control_net(kvmshim_device *device)
{
    static uint8_t frame[1000];

    (void)device;
    for (int i = 0; i < 8; i++) {
        frame[20]++; /* another flow, perhaps by the other pair */
        (void)!write(net_station, frame, sizeof(frame));
    }
}

static const uint8_t two_pairs[] = {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0};

/* ---- the balloon ------------------------------------------------------------------ */

static kvmshim_device *create_balloon(kvmshim_vm *vm, const kvmshim_place *place)
{
    const kvmshim_balloon_config config = {.size = 0};
    kvmshim_device *device;

    REQUIRE(kvmshim_balloon_create(vm, place, &config, &device, NULL) == 0);
    return device;
}

static void control_balloon(kvmshim_device *device)
{
    static uint64_t size;
    uint64_t actual;

    REQUIRE(kvmshim_balloon_resize(device, (++size % 16) * 4096, NULL) == 0);
    REQUIRE(kvmshim_balloon_actual(device, &actual, NULL) == 0);
}

/* ---- sockets: clients come and go, and the guest looks for a server that is not there -- */

static const struct virtio_vsock_hdr vsock_request = {
    .src_cid = 3,
    .dst_cid = 2,
    .src_port = 1,
    .dst_port = 1,
    .type = VIRTIO_VSOCK_TYPE_STREAM,
    .op = VIRTIO_VSOCK_OP_REQUEST,
};

static struct sockaddr_un vsock_address; /* of the device that is raced */
static socklen_t vsock_address_size;

static kvmshim_device *create_vsock(kvmshim_vm *vm, const kvmshim_place *place)
{
    const struct sockaddr any = {.sa_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    kvmshim_device *device;

    REQUIRE(bind(listener, &any, sizeof(any.sa_family)) == 0 && listen(listener, 64) == 0);
    if (vsock_address_size == 0) {
        vsock_address_size = sizeof(vsock_address);
        REQUIRE(getsockname(listener, (struct sockaddr *)&vsock_address,
                            &vsock_address_size) == 0);
    }
    REQUIRE(kvmshim_vsock_create(vm, place, 3, listener, "/nowhere", &device, NULL) == 0);
    close(listener);
    return device;
}

static void control_vsock(kvmshim_device *device)
{
    static const char greeting[] = "CONNECT 5\nand more";
    static int clients[8], next;
    int *client = &clients[next++ % 8];

    (void)device;
    if (*client > 0)
        close(*client);
    *client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(*client, (const struct sockaddr *)&vsock_address, vsock_address_size) == 0)
        send(*client, greeting, sizeof(greeting) - 1, MSG_NOSIGNAL);
}

/* ---- the console and the watchdog ---------------------------------------------------- */

static kvmshim_device *create_console(kvmshim_vm *vm, const kvmshim_place *place)
{
    kvmshim_device *device;

    REQUIRE(kvmshim_console_create(vm, place, &device, NULL) == 0);
    return device;
}

/* A client comes, types, changes the size of its window and leaves. */
static void control_console(kvmshim_device *console)
{
    int ends[2];

    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    REQUIRE(kvmshim_console_attach(console, ends[0], ends[0], NULL) == 0);
    REQUIRE(write(ends[1], "typed", 5) == 5);
    REQUIRE(kvmshim_console_resize(console, 80, 25, NULL) == 0);
    REQUIRE(kvmshim_console_resize(console, 132, 43, NULL) == 0);
    close(ends[0]);
    close(ends[1]);
}

static kvmshim_device *create_watchdog(kvmshim_vm *vm, const kvmshim_place *place)
{
    kvmshim_device *device;

    REQUIRE(kvmshim_watchdog_create(vm, place, 1, &device, NULL) == 0);
    return device;
}

const struct race_device race_devices[] = {
    {
        .name = "rng",
        .create = create_rng,
        .queue_count = 1,
        .queues = {{.writable = 64, .answered = true}},
    },
    {
        .name = "limited_rng",
        .create = create_limited_rng,
        .queue_count = 1,
        .queues = {{.writable = 64, .answered = true}},
    },
    {.name = "block_uring", .create = create_block_uring, BLOCK_QUEUES},
    {.name = "block_threads", .create = create_block_threads, BLOCK_QUEUES},
    {
        .name = "net",
        .create = create_net,
        .control = control_net,
        .queue_count = 5,
        .queues = {{.writable = 2048},
                   {.readable = 1000, .answered = true},
                   {.writable = 2048},
                   {.readable = 1000, .answered = true},
                   {sizeof(two_pairs), 1, two_pairs, sizeof(two_pairs), true}},
    },
    {
        .name = "balloon",
        .create = create_balloon,
        .control = control_balloon,
        .queue_count = 2,
        .queues = {{.readable = 16, .answered = true}, {.readable = 16, .answered = true}},
    },
    {
        .name = "vsock",
        .create = create_vsock,
        .control = control_vsock,
        .queue_count = 3,
        .queues = {{.writable = 4096},
                   {.readable = sizeof(vsock_request),
                    .header = &vsock_request,
                    .header_size = sizeof(vsock_request),
                    .answered = true},
                   {.writable = sizeof(struct virtio_vsock_event)}},
    },
    {
        .name = "console",
        .create = create_console,
        .control = control_console,
        .queue_count = 2,
        .queues = {{.writable = 64}, {.readable = 64, .answered = true}},
    },
    {
        .name = "watchdog",
        .create = create_watchdog,
        .queue_count = 1,
        .queues = {{.writable = 1, .answered = true}},
    },
    {.name = NULL},
};
