/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/virtio_vsock.h>
#include <stddef.h>
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
