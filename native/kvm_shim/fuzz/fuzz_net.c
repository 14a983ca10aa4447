/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device with two queue pairs. Its taps are sockets that carry one frame in each
 * datagram, and the limiter, the tap's ioctls and the interface's end are the input's to say.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"
#include "virtio.h"
#include "virtio_net.h"

enum {
    TARGET_FRAME = ACTION_TARGET, /* offset bytes for pair `region`, data its header's first */
    TARGET_LISTEN,                /* take what pair `region` sent */
    TARGET_END,                   /* the interface of pair `region` is no more */
    TARGET_LIMIT,                 /* let nothing through for data[0] attempts */
    TARGET_REFUSE,                /* the tap refuses data[0] ioctls */

    /* Of an input's first byte. */
    LIMITED = 1,
    READY = 2, /* begin where a driver has done its work */
    NO_MERGING = 4,
    ONE_PAIR = 8,

    PAIRS = 2,
    FRAME_BYTES = 70000,
};

struct limiter {
    kvmshim_device device;
};

struct wires {
    int ours[PAIRS], peers[PAIRS];
};

static _Thread_local uint32_t attempts_refused, ioctls_refused;

/* ---- what the device stands on --------------------------------------------- */

int limiter_of(kvmshim_device *device, struct limiter **limiter, kvmshim_error *err)
{
    (void)err;
    *limiter = (struct limiter *)device;
    return 0;
}

uint64_t limiter_take(struct limiter *limiter, uint64_t bytes, uint64_t operations)
{
    FUZZ_CHECK(bytes < NET_FRAME_MAX && operations == 1);
    if (!limiter || attempts_refused == 0)
        return 0;
    attempts_refused--;
    return 1;
}

void limiter_return(struct limiter *limiter, uint64_t bytes, uint64_t operations)
{
    (void)limiter;
    FUZZ_CHECK(bytes < NET_FRAME_MAX && operations == 1);
}

/* The tap of a frame that waits is looked at again at once. */
int timerfd_settime(int fd, int flags, const struct itimerspec *wanted, struct itimerspec *old)
{
    struct itimerspec soon = *wanted;

    FUZZ_CHECK(wanted->it_value.tv_sec == 0 && wanted->it_value.tv_nsec == 1);
    return (int)syscall(SYS_timerfd_settime, fd, flags, &soon, old);
}

static int tap_ioctl(void)
{
    if (ioctls_refused == 0)
        return 0;
    ioctls_refused--;
    return ioctls_refused & 1 ? -EINVAL : -EBADFD;
}

int net_tap_init(int tap, char interface[IF_NAMESIZE], uint64_t *features, kvmshim_error *err)
{
    (void)interface;
    (void)err;
    FUZZ_CHECK(tap >= 0 && *features != 0);
    return 0;
}

int net_tap_offload(int tap, uint64_t offloads)
{
    FUZZ_CHECK(tap >= 0 && !(offloads & ~NET_GUEST_OFFLOADS));
    return tap_ioctl();
}

int net_tap_attach(int tap, bool attach)
{
    (void)attach;
    FUZZ_CHECK(tap >= 0);
    return tap_ioctl();
}

int net_vhost_init(struct net_pair *pair, int vhost, uint64_t *features, kvmshim_error *err)
{
    (void)pair;
    (void)vhost;
    (void)features;
    return error_set(err, -ENODEV, "vhost");
}

int net_vhost_start(struct net_pair *pair, kvmshim_error *err)
{
    (void)pair;
    return error_set(err, -ENODEV, "vhost");
}

void net_vhost_stop(struct net_pair *pair)
{
    FUZZ_CHECK(!pair->vhost_runs);
}

/* ---- the other end --------------------------------------------------------- */

static void send_frame(int peer, const struct fuzz_record *record)
{
    static uint8_t frame[FRAME_BYTES];

    memcpy(frame, record->data, sizeof(record->data));
    (void)!send(peer, frame, record->offset % FRAME_BYTES, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void act(void *opaque, const struct fuzz_record *record)
{
    struct wires *wires = opaque;
    const uint32_t pair = record->region % PAIRS;
    static uint8_t received[2 * FRAME_BYTES];
    ssize_t length;

    switch (record->action) {
    case TARGET_FRAME:
        send_frame(wires->peers[pair], record);
        break;
    case TARGET_LISTEN:
        length = recv(wires->peers[pair], received, sizeof(received), MSG_DONTWAIT);
        FUZZ_CHECK(length < 0 || (length > NET_HEADER && length <= NET_FRAME_MAX));
        break;
    case TARGET_END:
        shutdown(wires->ours[pair], SHUT_RDWR);
        break;
    case TARGET_LIMIT:
        attempts_refused = record->data[0];
        break;
    case TARGET_REFUSE:
        ioctls_refused = record->data[0] % 4;
        break;
    default:
        break;
    }
}

static void count(kvmshim_device *net)
{
    kvmshim_counter entries[64];
    struct counters counters = {.entries = entries, .capacity = 64};

    net->ops->counters(net, &counters);
    FUZZ_CHECK(counters.count < 64);
    for (uint32_t i = 0; i < counters.count; i++)
        if (strcmp(entries[i].name, "rx_bytes") == 0)
            FUZZ_CHECK(entries[i].value / NET_FRAME_MAX <= entries[i + 1].value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t options = size ? data[0] : 0;
    struct limiter limiter;
    struct wires wires;
    kvmshim_net_config config = {
        .taps = wires.ours,
        .queue_pairs = options & ONE_PAIR ? 1 : PAIRS,
        .queue_size = 16,
        .mtu = 1500,
        .mac = {2, 3, 4, 5, 6, 7},
        .offload_csum = 1,
        .offload_tso = 1,
        .offload_ufo = 1,
        .rx_limiter = options & LIMITED ? &limiter.device : NULL,
        .tx_limiter = options & LIMITED ? &limiter.device : NULL,
    };
    const uint64_t features = options & NO_MERGING ? ~NET_BIT(MRG_RXBUF) : UINT64_MAX;
    kvmshim_vm vm = {0};
    kvmshim_place place;
    kvmshim_device *net;

    for (int i = 0; i < PAIRS; i++) {
        int ends[2];

        FUZZ_CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
        wires.ours[i] = ends[0];
        wires.peers[i] = ends[1];
    }
    attempts_refused = ioctls_refused = 0;
    fuzz_virtio_begin(&vm);
    place = fuzz_place(&vm, 1);
    FUZZ_CHECK(kvmshim_net_create(&vm, &place, &config, &net, NULL) == 0);
    if (options & READY)
        fuzz_virtio_ready(&vm, net, features);
    if (size)
        fuzz_virtio_play(&vm, net, data + 1, size - 1, act, &wires);
    count(net);
    fuzz_end(&vm);
    for (int i = 0; i < PAIRS; i++) {
        close(wires.ours[i]);
        close(wires.peers[i]);
    }
    return 0;
}
