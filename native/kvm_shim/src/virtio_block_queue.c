/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread of one queue. It works in batches: what is done is given back, what is new goes
 * to the engine, with one system call for each, until there is nothing more of both. Only
 * then are kicks and completions to wake it again.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"
#include "seccomp_filter.h"
#include "thread.h"
#include "virtio_block.h"

enum { ROUNDS_MAX = 64 }; /* then the thread looks whether it is to be held */

#define NS_PER_SECOND UINT64_C(1000000000)

/* ---- counters: one thread writes ---------------------------------------------- */

static void count(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

static void count_latency(struct block_latency *latency, uint64_t ns)
{
    uint64_t min = atomic_load_explicit(&latency->min_ns, memory_order_relaxed);

    count(&latency->sum_ns, ns);
    if (ns < min || min == 0)
        atomic_store_explicit(&latency->min_ns, ns, memory_order_relaxed);
    if (ns > atomic_load_explicit(&latency->max_ns, memory_order_relaxed))
        atomic_store_explicit(&latency->max_ns, ns, memory_order_relaxed);
}

static void count_request(struct block_queue *queue, const struct block_request *request,
                          uint64_t now)
{
    struct block_counters *counters = &queue->counters;

    if (request->outcome == VIRTIO_BLK_S_IOERR)
        count(&counters->io_errors, 1);
    if (request->outcome != VIRTIO_BLK_S_OK)
        return;
    switch (request->type) {
    case VIRTIO_BLK_T_IN:
        count(&counters->read_ops, 1);
        count(&counters->read_bytes, request->bytes);
        count_latency(&counters->read, now - request->started_ns);
        break;
    case VIRTIO_BLK_T_OUT:
        count(&counters->write_ops, 1);
        count(&counters->write_bytes, request->bytes);
        count_latency(&counters->write, now - request->started_ns);
        break;
    case VIRTIO_BLK_T_FLUSH:
        count(&counters->flush_ops, 1);
        break;
    case VIRTIO_BLK_T_DISCARD:
        count(&counters->discard_ops, 1);
        break;
    case VIRTIO_BLK_T_WRITE_ZEROES:
        count(&counters->write_zeroes_ops, 1);
        break;
    default:
        break;
    }
}

/* ---- requests ------------------------------------------------------------------ */

static void block_give_back(struct block_queue *queue, struct block_request *request, uint64_t now)
{
    *request->status = request->outcome;
    count_request(queue, request, now);
    virtqueue_push(queue->ring, request->chain.head, block_request_written(request));
    if (request->bounce != NULL) {
        request->bounce->next = queue->free_bounce;
        queue->free_bounce = request->bounce;
        queue->starved = false;
        request->bounce = NULL;
    }
    request->next = queue->free;
    queue->free = request;
}

/* Give back what the engine has done; true when there was anything. */
static bool block_reap(struct block_queue *queue)
{
    struct block_io *io = queue->engine->ops->reap(queue->engine);
    uint64_t now;

    if (io == NULL)
        return false;
    now = machine_now_ns();
    for (; io != NULL; io = queue->engine->ops->reap(queue->engine)) {
        struct block_request *request = (struct block_request *)io;

        if (block_request_continue(request) == BLOCK_GO) {
            queue->engine->ops->queue(queue->engine, io);
            continue;
        }
        queue->in_flight--;
        block_give_back(queue, request, now);
    }
    virtqueue_publish(queue->ring);
    return true;
}

static void block_throttle(struct block_queue *queue, uint64_t wait_ns, uint64_t now)
{
    const struct itimerspec timer = {
        .it_value.tv_sec = (time_t)(wait_ns / NS_PER_SECOND),
        .it_value.tv_nsec = (long)(wait_ns % NS_PER_SECOND),
    };

    queue->throttled_at = now;
    timerfd_settime(queue->timer_fd, 0, &timer, NULL);
}

static void block_unthrottle(struct block_queue *queue)
{
    if (queue->throttled_at == 0)
        return;
    count(&queue->counters.throttled_ns, machine_now_ns() - queue->throttled_at);
    queue->throttled_at = 0;
}

/* Begin the request, or put it back: it is popped again when there is room for it. */
static bool block_admit(struct block_queue *queue, struct block_request *request, uint64_t now)
{
    uint64_t wait_ns;

    if (request->unaligned && queue->free_bounce == NULL) {
        virtqueue_unpop(queue->ring, 1);
        queue->starved = true; /* until one in flight is given back */
        return false;
    }
    wait_ns = limiter_take(queue->block->limiter, request->bytes, 1);
    if (wait_ns > 0) {
        virtqueue_unpop(queue->ring, 1);
        block_throttle(queue, wait_ns, now);
        return false;
    }
    if (request->unaligned) {
        request->bounce = queue->free_bounce;
        queue->free_bounce = request->bounce->next;
    }
    request->started_ns = now;
    queue->free = request->next;
    return true;
}

static bool block_may_fetch(const struct block_queue *queue)
{
    return queue->throttled_at == 0 && !queue->starved;
}

/* Begin what is new; true when there was anything. */
static bool block_fetch(struct block_queue *queue)
{
    struct block_request *request;
    uint64_t now = 0;

    while (block_may_fetch(queue) && (request = queue->free) != NULL &&
           virtqueue_pop(queue->ring, &request->chain)) {
        enum block_step step = block_request_parse(request);

        if (step == BLOCK_BROKEN) {
            virtio_fail(&queue->block->virtio, "a request has no place for its status");
            break;
        }
        if (now == 0)
            now = machine_now_ns();
        if (!block_admit(queue, request, now))
            break;
        if (step == BLOCK_ANSWER) {
            block_give_back(queue, request, now);
            continue;
        }
        block_request_begin(request);
        queue->engine->ops->queue(queue->engine, &request->io);
        queue->in_flight++;
    }
    return now != 0;
}

/* Work until there is nothing to do; but not for ever. */
static void block_work(struct block_queue *queue)
{
    const struct block_engine_ops *engine = queue->engine->ops;

    virtqueue_disable_kicks(queue->ring);
    engine->disarm(queue->engine);
    for (int round = 0; round < ROUNDS_MAX; round++) {
        bool busy = block_reap(queue);
        bool all;

        busy = block_fetch(queue) || busy;
        all = engine->submit(queue->engine);
        virtqueue_publish(queue->ring);
        if (busy || !all)
            continue;
        busy = engine->arm(queue->engine);
        if (block_may_fetch(queue))
            busy = virtqueue_enable_kicks(queue->ring) || busy;
        if (!busy)
            return;
        virtqueue_disable_kicks(queue->ring);
        engine->disarm(queue->engine);
    }
    engine->arm(queue->engine);
    virtqueue_kick(queue->ring); /* come back, after whatever else the thread is wanted for */
}

static void block_kicked(void *opaque, uint32_t events)
{
    struct block_queue *queue = opaque;

    (void)events;
    virtqueue_kicked(queue->ring);
    block_work(queue);
}

static void block_completed(void *opaque, uint32_t events)
{
    struct block_queue *queue = opaque;
    eventfd_t drained;

    (void)events;
    eventfd_read(queue->engine->event_fd, &drained);
    block_work(queue);
}

static void block_timer(void *opaque, uint32_t events)
{
    struct block_queue *queue = opaque;
    uint64_t expirations;

    (void)events;
    if (read(queue->timer_fd, &expirations, sizeof(expirations)) < 0)
        return;
    block_unthrottle(queue);
    block_work(queue);
}

/* ---- start and stop ------------------------------------------------------------ */

int block_queue_start(struct block_queue *queue, struct virtqueue *ring, kvmshim_error *err)
{
    int rc;

    queue->ring = ring;
    rc = io_thread_watch(&queue->thread, &queue->kick, ring->kick_fd, EPOLLIN, block_kicked,
                         queue, err);
    if (rc == 0)
        rc = io_thread_watch(&queue->thread, &queue->completion, queue->engine->event_fd, EPOLLIN,
                             block_completed, queue, err);
    if (rc == 0)
        rc = io_thread_watch(&queue->thread, &queue->timer, queue->timer_fd, EPOLLIN, block_timer,
                             queue, err);
    if (rc < 0)
        block_queue_stop(queue);
    return rc;
}

void block_queue_release(struct block_queue *queue)
{
    virtqueue_kick(queue->ring);
    io_thread_release(&queue->thread);
}

int block_queue_hold(struct block_queue *queue, uint64_t deadline_ns)
{
    return io_thread_hold(&queue->thread, deadline_ns);
}

struct drain {
    struct block_queue *queue;
    uint64_t deadline_ns;
};

static bool block_wait(struct block_queue *queue, uint64_t deadline_ns)
{
    struct pollfd completion = {.fd = queue->engine->event_fd, .events = POLLIN};
    uint64_t now = machine_now_ns();
    struct timespec timeout;
    eventfd_t drained;

    if (now >= deadline_ns)
        return false;
    timeout.tv_sec = (time_t)((deadline_ns - now) / NS_PER_SECOND);
    timeout.tv_nsec = (long)((deadline_ns - now) % NS_PER_SECOND);
    if (ppoll(&completion, 1, &timeout, NULL) > 0)
        eventfd_read(queue->engine->event_fd, &drained);
    return true;
}

/* In the queue's own thread: its ring is bound to that. */
static void block_drain(void *opaque)
{
    const struct drain *drain = opaque;
    struct block_queue *queue = drain->queue;
    const struct block_engine_ops *engine = queue->engine->ops;

    for (;;) {
        while (block_reap(queue))
            engine->submit(queue->engine);
        if (queue->in_flight == 0)
            return;
        if (engine->submit(queue->engine) && !engine->arm(queue->engine) &&
            !block_wait(queue, drain->deadline_ns))
            return;
    }
}

int block_queue_drain(struct block_queue *queue, uint64_t deadline_ns)
{
    struct drain drain = {.queue = queue, .deadline_ns = deadline_ns};

    io_thread_call(&queue->thread, block_drain, &drain);
    return queue->in_flight == 0 ? 0 : -ETIMEDOUT;
}

void block_queue_stop(struct block_queue *queue)
{
    const struct itimerspec never = {0};

    io_thread_forget(&queue->thread, &queue->kick);
    io_thread_forget(&queue->thread, &queue->completion);
    io_thread_forget(&queue->thread, &queue->timer);
    timerfd_settime(queue->timer_fd, 0, &never, NULL);
    block_unthrottle(queue);
    queue->ring = NULL;
}

/* ---- create and destroy -------------------------------------------------------- */

struct engine_opening {
    struct block_queue *queue;
    uint8_t kind;
    const char *name;
    const kvmshim_vm *vm;
    uint32_t depth;
    kvmshim_error *err;
    int rc;
};

/* In the queue's own thread, which is confined once it has what it needs. */
static void block_open_engine(void *opaque)
{
    struct engine_opening *opening = opaque;
    struct block_queue *queue = opening->queue;
    int fd = queue->block->file.fd;

    opening->rc = -ENOSYS;
    if (opening->kind != KVMSHIM_BLOCK_THREADS)
        opening->rc = block_uring_open(&queue->engine, fd, opening->depth, opening->err);
    if (opening->rc < 0 && opening->kind != KVMSHIM_BLOCK_URING)
        opening->rc = block_threads_open(&queue->engine, fd, opening->depth, opening->vm,
                                         opening->name, opening->err);
    if (opening->rc < 0)
        return;
    opening->rc = thread_confine(seccomp_filter(opening->vm, KVMSHIM_THREAD_DISK));
    if (opening->rc < 0)
        error_set(opening->err, opening->rc, "disk: confine the thread of a queue");
}

static int block_queue_allocate(struct block_queue *queue, uint16_t size, kvmshim_error *err)
{
    uint32_t capacity = size + BLOCK_SEGMENTS_SPARE;
    size_t bounces = queue->block->file.direct ? (size_t)BLOCK_BOUNCES * BLOCK_BOUNCE_SIZE : 0;

    queue->requests = calloc(size, sizeof(*queue->requests));
    queue->segments = calloc((size_t)size * capacity, sizeof(*queue->segments));
    if (queue->requests == NULL || queue->segments == NULL ||
        (bounces > 0 &&
         posix_memalign((void **)&queue->bounce_memory, BLOCK_BOUNCE_SIZE, bounces) != 0))
        return error_set(err, -ENOMEM, "disk: allocate a queue of %u", size);
    for (uint32_t i = 0; i < size; i++) {
        struct block_request *request = &queue->requests[i];

        request->queue = queue;
        request->chain.iov = queue->segments + (size_t)i * capacity;
        request->chain.capacity = capacity;
        request->next = queue->free;
        queue->free = request;
    }
    for (uint32_t i = 0; bounces > 0 && i < BLOCK_BOUNCES; i++) {
        queue->bounces[i].data = queue->bounce_memory + (size_t)i * BLOCK_BOUNCE_SIZE;
        queue->bounces[i].next = queue->free_bounce;
        queue->free_bounce = &queue->bounces[i];
    }
    return 0;
}

int block_queue_create(struct block_queue *queue, const kvmshim_vm *vm, const char *name,
                       uint16_t size, uint8_t engine, kvmshim_error *err)
{
    struct engine_opening opening = {
        .queue = queue, .kind = engine, .name = name, .vm = vm, .depth = size, .err = err};
    int rc;

    queue->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (queue->timer_fd < 0)
        return error_set(err, -errno, "disk: create a timerfd");
    rc = block_queue_allocate(queue, size, err);
    if (rc == 0)
        rc = io_thread_start(&queue->thread, vm, KVMSHIM_THREAD_CONTROL, name, err);
    if (rc < 0)
        return rc;
    io_thread_call(&queue->thread, block_open_engine, &opening);
    return opening.rc;
}

/* In the queue's own thread. */
static void block_close_engine(void *opaque)
{
    struct block_queue *queue = opaque;

    queue->engine->ops->close(queue->engine);
}

void block_queue_destroy(struct block_queue *queue)
{
    if (queue->engine != NULL)
        io_thread_call(&queue->thread, block_close_engine, queue);
    io_thread_stop(&queue->thread);
    free(queue->bounce_memory);
    free(queue->segments);
    free(queue->requests);
    if (queue->timer_fd > 0)
        close(queue->timer_fd);
}
