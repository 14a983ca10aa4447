/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block operations by threads that block, for hosts that refuse io_uring: a few for each
 * queue, which is how many operations its disk gets at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "block_engine.h"
#include "error.h"
#include "kvm_shim_virtio.h"
#include "seccomp_filter.h"
#include "thread.h"

#define THREADS_MAX 8u
#define STACK_SIZE (64 * 1024) /* they make one system call */

struct io_list {
    struct block_io *first, **end;
};

struct block_threads {
    struct block_engine engine; /* first */
    int fd;
    struct io_list queued;  /* not submitted: of the queue's thread alone, as `reaped` is */
    struct io_list reaped;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t work;
    struct io_list submitted, done;
    bool armed, stopping;

    uint32_t count;
    pthread_t threads[THREADS_MAX];
};

static void list_clear(struct io_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void list_append(struct io_list *list, struct block_io *io)
{
    io->next = NULL;
    *list->end = io;
    list->end = &io->next;
}

static struct block_io *list_take(struct io_list *list)
{
    struct block_io *io = list->first;

    if (io == NULL)
        return NULL;
    list->first = io->next;
    if (list->first == NULL)
        list->end = &list->first;
    return io;
}

/* Append all of `from`, which is empty then. */
static void list_move(struct io_list *list, struct io_list *from)
{
    if (from->first == NULL)
        return;
    *list->end = from->first;
    list->end = from->end;
    list_clear(from);
}

/* ---- the pool -------------------------------------------------------------- */

static int64_t threads_perform(int fd, const struct block_io *io)
{
    off_t offset = (off_t)io->offset, length = (off_t)io->length;
    int segments = (int)io->iov_count;

    switch (io->op) {
    case BLOCK_READ:
        return preadv(fd, io->iov, segments, offset);
    case BLOCK_WRITE:
        return pwritev2(fd, io->iov, segments, offset, io->durable ? RWF_DSYNC : 0);
    case BLOCK_FLUSH:
        return fdatasync(fd);
    case BLOCK_PUNCH:
        return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    case BLOCK_ZERO:
        return fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
    }
    return -1; /* not reached: these are all */
}

static void *threads_main(void *opaque)
{
    struct block_threads *pool = opaque;

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct block_io *io = list_take(&pool->submitted);

        if (io == NULL) {
            if (pool->stopping)
                break;
            pthread_cond_wait(&pool->work, &pool->lock);
            continue;
        }
        pthread_mutex_unlock(&pool->lock);
        io->result = threads_perform(pool->fd, io);
        if (io->result < 0)
            io->result = -errno;
        pthread_mutex_lock(&pool->lock);
        if (pool->armed && pool->done.first == NULL)
            eventfd_write(pool->engine.event_fd, 1);
        list_append(&pool->done, io);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* ---- the engine ------------------------------------------------------------- */

static void threads_queue(struct block_engine *engine, struct block_io *io)
{
    list_append(&((struct block_threads *)engine)->queued, io);
}

static bool threads_submit(struct block_engine *engine)
{
    struct block_threads *pool = (struct block_threads *)engine;

    if (pool->queued.first == NULL)
        return true;
    pthread_mutex_lock(&pool->lock);
    list_move(&pool->submitted, &pool->queued);
    if (pool->submitted.first->next == NULL)
        pthread_cond_signal(&pool->work);
    else
        pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    return true;
}

static struct block_io *threads_reap(struct block_engine *engine)
{
    struct block_threads *pool = (struct block_threads *)engine;

    if (pool->reaped.first == NULL) {
        pthread_mutex_lock(&pool->lock);
        list_move(&pool->reaped, &pool->done);
        pthread_mutex_unlock(&pool->lock);
    }
    return list_take(&pool->reaped);
}

static bool threads_arm(struct block_engine *engine)
{
    struct block_threads *pool = (struct block_threads *)engine;
    bool missed;

    pthread_mutex_lock(&pool->lock);
    pool->armed = true;
    missed = pool->done.first != NULL;
    pthread_mutex_unlock(&pool->lock);
    return missed || pool->reaped.first != NULL;
}

static void threads_disarm(struct block_engine *engine)
{
    struct block_threads *pool = (struct block_threads *)engine;

    pthread_mutex_lock(&pool->lock);
    pool->armed = false;
    pthread_mutex_unlock(&pool->lock);
}

static void threads_close(struct block_engine *engine)
{
    struct block_threads *pool = (struct block_threads *)engine;

    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    if (engine->event_fd >= 0)
        close(engine->event_fd);
    free(pool);
}

static const struct block_engine_ops threads_ops = {
    .kind = KVMSHIM_BLOCK_THREADS,
    .queue = threads_queue,
    .submit = threads_submit,
    .reap = threads_reap,
    .arm = threads_arm,
    .disarm = threads_disarm,
    .close = threads_close,
};

int block_threads_open(struct block_engine **engine, int fd, uint32_t depth, const kvmshim_vm *vm,
                       const char *name, kvmshim_error *err)
{
    const uint32_t count = depth < THREADS_MAX ? depth : THREADS_MAX;
    struct block_threads *pool = calloc(1, sizeof(*pool));
    const struct thread_start start = {
        .name = name,
        .stack = STACK_SIZE,
        .filter = seccomp_filter(vm, KVMSHIM_THREAD_DISK_POOL),
        .run = threads_main,
        .argument = pool,
    };
    int rc;

    if (pool == NULL)
        return error_set(err, -ENOMEM, "block threads: allocate");
    list_clear(&pool->queued);
    list_clear(&pool->reaped);
    list_clear(&pool->submitted);
    list_clear(&pool->done);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pool->armed = true;
    pool->engine.ops = &threads_ops;
    pool->fd = fd;
    pool->engine.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    rc = pool->engine.event_fd < 0 ? -errno : 0;
    while (rc == 0 && pool->count < count) {
        rc = thread_create(&pool->threads[pool->count], &start);
        if (rc == 0)
            pool->count++;
    }
    if (rc < 0) {
        threads_close(&pool->engine);
        return error_set(err, rc, "block threads: start them");
    }
    *engine = &pool->engine;
    return 0;
}
