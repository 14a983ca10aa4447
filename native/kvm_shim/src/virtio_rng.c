/* SPDX-License-Identifier: Apache-2.0 */
/* An entropy device (virtio 1.2, 5.4): one queue of buffers to fill with random bytes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"
#include "io_thread.h"
#include "kvm_shim_seccomp.h"
#include "limiter.h"
#include "virtio_device.h"

enum {
    QUEUE_SIZE = 256,
    BUFFERS_MAX = 64,
    REQUEST_MAX = 65536, /* bytes; a longer one is answered in part, which it may be */
};

struct virtio_rng {
    struct virtio_device virtio;
    struct io_thread thread;
    struct io_watch kick, source, timer;
    int fd; /* of the source; -1: getrandom(2) */
    int timer_fd;
    struct limiter *limiter;
    uint64_t throttled_at; /* since when the limiter has had a request wait; 0: it has not */
    _Atomic uint64_t bytes, throttled_ns;
};

static ssize_t rng_get(const struct virtio_rng *rng, void *data, uint64_t size)
{
    ssize_t got;

    do {
        got = rng->fd < 0 ? getrandom(data, size, 0) : read(rng->fd, data, size);
    } while (got < 0 && errno == EINTR);
    return got;
}

/* Up to `size` bytes into the buffers. How many; 0 with errno when there are none (0: the
 * source is at its end). */
static uint32_t rng_fill(const struct virtio_rng *rng, const struct virtqueue_chain *chain,
                         uint64_t size)
{
    const struct iovec *iov = &chain->iov[chain->readable];
    uint64_t done = 0, at = 0;

    errno = 0;
    while (done < size) {
        uint64_t room = iov->iov_len - at < size - done ? iov->iov_len - at : size - done;
        ssize_t got = rng_get(rng, (uint8_t *)iov->iov_base + at, room);

        if (got <= 0)
            break;
        done += (uint64_t)got;
        at += (uint64_t)got;
        if (at == iov->iov_len) {
            iov++;
            at = 0;
        }
    }
    return (uint32_t)done;
}

/* Come back when the limiter lets more through. */
static void rng_wait(struct virtio_rng *rng, uint64_t ns)
{
    const struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)},
    };

    if (rng->throttled_at == 0)
        rng->throttled_at = machine_now_ns();
    timerfd_settime(rng->timer_fd, 0, &when, NULL);
}

static void rng_count_wait(struct virtio_rng *rng)
{
    if (rng->throttled_at == 0)
        return;
    atomic_fetch_add(&rng->throttled_ns, machine_now_ns() - rng->throttled_at);
    rng->throttled_at = 0;
}

static void rng_readable(void *opaque, uint32_t events);

/* Serve a request. False when it has to wait, and the queue with it. */
static bool rng_serve(struct virtio_rng *rng, struct virtqueue *queue,
                      const struct virtqueue_chain *chain)
{
    uint64_t size = chain->writable_bytes < REQUEST_MAX ? chain->writable_bytes : REQUEST_MAX;
    uint64_t wait = limiter_take(rng->limiter, size, 1);
    uint32_t filled;

    if (wait) {
        virtqueue_unpop(queue, 1);
        rng_wait(rng, wait);
        return false;
    }
    rng_count_wait(rng);
    filled = rng_fill(rng, chain, size);
    if (filled == 0 && size != 0) {
        int why = errno;

        if (why == EAGAIN && io_thread_watch(&rng->thread, &rng->source, rng->fd, EPOLLIN,
                                             rng_readable, rng, NULL) == 0) {
            limiter_return(rng->limiter, size, 1);
            virtqueue_unpop(queue, 1);
            return false;
        }
        virtio_log(&rng->virtio, "the source of entropy gives nothing: %s",
                   why ? strerror(why) : "it is at its end");
    }
    virtqueue_push(queue, chain->head, filled);
    atomic_fetch_add(&rng->bytes, filled);
    return true;
}

static void rng_work(struct virtio_rng *rng)
{
    struct virtqueue *queue = &rng->virtio.queues[0];
    struct iovec iov[BUFFERS_MAX];
    struct virtqueue_chain chain = {.iov = iov, .capacity = BUFFERS_MAX};

    while (virtqueue_pop(queue, &chain) && rng_serve(rng, queue, &chain))
        ;
    virtqueue_publish(queue);
}

/* ---- what the thread watches -------------------------------------------------- */

static void rng_kicked(void *opaque, uint32_t events)
{
    struct virtio_rng *rng = opaque;

    (void)events;
    virtqueue_kicked(&rng->virtio.queues[0]);
    rng_work(rng);
}

static void rng_readable(void *opaque, uint32_t events)
{
    struct virtio_rng *rng = opaque;

    (void)events;
    io_thread_forget(&rng->thread, &rng->source);
    rng_work(rng);
}

static void rng_timer(void *opaque, uint32_t events)
{
    struct virtio_rng *rng = opaque;
    uint64_t expirations;

    (void)events;
    if (read(rng->timer_fd, &expirations, sizeof(expirations)) > 0)
        rng_work(rng);
}

/* ---- life ----------------------------------------------------------------------- */

static int rng_start(struct virtio_device *device, kvmshim_error *err)
{
    struct virtio_rng *rng = (struct virtio_rng *)device;
    struct virtqueue *queue = &device->queues[0];
    int rc;

    rc = io_thread_watch(&rng->thread, &rng->kick, queue->kick_fd, EPOLLIN, rng_kicked, rng, err);
    if (rc < 0)
        return rc;
    io_thread_release(&rng->thread);
    virtqueue_kick(queue);
    return 0;
}

/* What is not served yet was not taken, and is seen at the next start. */
static int rng_stop(struct virtio_device *device, uint64_t deadline_ns)
{
    struct virtio_rng *rng = (struct virtio_rng *)device;
    int rc = io_thread_hold(&rng->thread, deadline_ns);

    if (rc == 0)
        rng_count_wait(rng);
    return rc;
}

static void rng_counters(struct virtio_device *device, struct counters *counters)
{
    struct virtio_rng *rng = (struct virtio_rng *)device;

    counters_add(counters, atomic_load(&rng->bytes), "bytes");
    counters_add(counters, atomic_load(&rng->throttled_ns) / 1000, "throttled_us");
}

static void rng_free(struct virtio_rng *rng)
{
    io_thread_stop(&rng->thread);
    if (rng->timer_fd >= 0)
        close(rng->timer_fd);
    if (rng->fd >= 0)
        close(rng->fd);
    free(rng);
}

static void rng_destroy(struct virtio_device *device)
{
    rng_free((struct virtio_rng *)device);
}

static const struct virtio_ops rng_ops = {
    .name = "virtio-rng",
    .type = VIRTIO_ID_RNG,
    .class_code = 0xff0000, /* none of PCI's classes */
    .version = 1,
    .start = rng_start,
    .stop = rng_stop,
    .destroy = rng_destroy,
    .counters = rng_counters,
};

/* The threads and descriptors; what was made stays for rng_free(). */
static int rng_open(struct virtio_rng *rng, const kvmshim_vm *vm, int fd, kvmshim_error *err)
{
    int rc;

    rng->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (rng->timer_fd < 0)
        return error_set(err, -errno, "virtio-rng: timer");
    if (fd >= 0) {
        rng->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (rng->fd < 0)
            return error_set(err, -errno, "virtio-rng: source");
    }
    rc = io_thread_start(&rng->thread, vm, KVMSHIM_THREAD_RNG, "rng", err);
    if (rc < 0)
        return rc;
    return io_thread_watch(&rng->thread, &rng->timer, rng->timer_fd, EPOLLIN, rng_timer, rng,
                           err);
}

int kvmshim_rng_create(kvmshim_vm *vm, const kvmshim_place *place, int fd,
                       kvmshim_device *limiter, kvmshim_device **device, kvmshim_error *err)
{
    static const uint16_t queue_sizes[] = {QUEUE_SIZE};
    struct virtio_rng *rng = calloc(1, sizeof(*rng));
    int rc;

    if (!rng)
        return error_set(err, -ENOMEM, "virtio-rng: allocate");
    rng->fd = rng->timer_fd = -1;
    rc = limiter_of(limiter, &rng->limiter, err);
    if (rc == 0)
        rc = rng_open(rng, vm, fd, err);
    if (rc == 0)
        rc = virtio_create(&rng->virtio, vm, place, &rng_ops, 0, NULL, 0, queue_sizes, 1, err);
    if (rc < 0) {
        rng_free(rng);
        return rc;
    }
    *device = &rng->virtio.device;
    return 0;
}
