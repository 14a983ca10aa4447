/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block operations by io_uring: a ring for each queue, the image as its fixed file.
 *
 * DEFER_TASKRUN (Linux 6.1) has completions worked off when the thread asks, in one go,
 * rather than by interrupting it. It binds the ring to the thread that makes it.
 */
#include <errno.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "block_engine.h"
#include "error.h"
#include "kvm_shim_virtio.h"

struct block_uring {
    struct block_engine engine; /* first */
    struct io_uring ring;
};

static void uring_prepare(struct io_uring_sqe *sqe, const struct block_io *io)
{
    const int file = 0; /* the first of the fixed ones */

    switch (io->op) {
    case BLOCK_READ:
        if (io->iov_count == 1)
            io_uring_prep_read(sqe, file, io->iov[0].iov_base, (unsigned int)io->iov[0].iov_len,
                               io->offset);
        else
            io_uring_prep_readv(sqe, file, io->iov, io->iov_count, io->offset);
        break;
    case BLOCK_WRITE:
        if (io->iov_count == 1)
            io_uring_prep_write(sqe, file, io->iov[0].iov_base, (unsigned int)io->iov[0].iov_len,
                                io->offset);
        else
            io_uring_prep_writev(sqe, file, io->iov, io->iov_count, io->offset);
        sqe->rw_flags = io->durable ? RWF_DSYNC : 0;
        break;
    case BLOCK_FLUSH:
        io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
        break;
    case BLOCK_PUNCH:
        io_uring_prep_fallocate(sqe, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)io->offset, (off_t)io->length);
        break;
    case BLOCK_ZERO:
        io_uring_prep_fallocate(sqe, file, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                (off_t)io->offset, (off_t)io->length);
        break;
    }
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

/* The ring has `depth` entries at least and each operation takes one: there is always room,
 * since what was queued before and not taken is under way too. */
static void uring_queue(struct block_engine *engine, struct block_io *io)
{
    struct block_uring *uring = (struct block_uring *)engine;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

    uring_prepare(sqe, io);
    io_uring_sqe_set_data(sqe, io);
}

static bool uring_submit(struct block_engine *engine)
{
    struct block_uring *uring = (struct block_uring *)engine;
    int rc;

    do {
        rc = io_uring_submit(&uring->ring);
    } while (rc == -EINTR);
    return io_uring_sq_ready(&uring->ring) == 0;
}

static struct block_io *uring_reap(struct block_engine *engine)
{
    struct block_uring *uring = (struct block_uring *)engine;
    struct io_uring_cqe *cqe;
    struct block_io *io;

    /* Asks the kernel only when its flags say that there is something to get. */
    if (io_uring_peek_cqe(&uring->ring, &cqe) != 0)
        return NULL;
    io = io_uring_cqe_get_data(cqe);
    io->result = cqe->res;
    io_uring_cqe_seen(&uring->ring, cqe);
    return io;
}

static bool uring_arm(struct block_engine *engine)
{
    struct block_uring *uring = (struct block_uring *)engine;
    struct io_uring_cqe *cqe;

    io_uring_cq_eventfd_toggle(&uring->ring, true);
    atomic_thread_fence(memory_order_seq_cst); /* the kernel looks at the flag after it posts */
    return io_uring_peek_cqe(&uring->ring, &cqe) == 0;
}

static void uring_disarm(struct block_engine *engine)
{
    struct block_uring *uring = (struct block_uring *)engine;

    io_uring_cq_eventfd_toggle(&uring->ring, false);
}

static void uring_close(struct block_engine *engine)
{
    struct block_uring *uring = (struct block_uring *)engine;

    io_uring_unregister_files(&uring->ring); /* the kernel is done with a ring some time later */
    io_uring_queue_exit(&uring->ring);
    close(engine->event_fd);
    free(uring);
}

static const struct block_engine_ops uring_ops = {
    .kind = KVMSHIM_BLOCK_URING,
    .queue = uring_queue,
    .submit = uring_submit,
    .reap = uring_reap,
    .arm = uring_arm,
    .disarm = uring_disarm,
    .close = uring_close,
};

static int uring_init(struct io_uring *ring, uint32_t depth)
{
    int rc = io_uring_queue_init(depth, ring,
                                 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                     IORING_SETUP_TASKRUN_FLAG);

    /* A kernel that does not know these. */
    return rc == -EINVAL ? io_uring_queue_init(depth, ring, 0) : rc;
}

int block_uring_open(struct block_engine **engine, int fd, uint32_t depth, kvmshim_error *err)
{
    struct block_uring *uring = calloc(1, sizeof(*uring));
    const char *step = "create the ring";
    int rc;

    if (uring == NULL)
        return error_set(err, -ENOMEM, "io_uring: allocate");
    uring->engine.ops = &uring_ops;
    rc = uring_init(&uring->ring, depth);
    if (rc < 0)
        goto unwind_memory;
    step = "create an eventfd";
    uring->engine.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (uring->engine.event_fd < 0) {
        rc = -errno;
        goto unwind_ring;
    }
    step = "register the file";
    rc = io_uring_register_files(&uring->ring, &fd, 1);
    if (rc < 0)
        goto unwind_event;
    step = "register the eventfd";
    rc = io_uring_register_eventfd(&uring->ring, uring->engine.event_fd);
    if (rc < 0)
        goto unwind_event;
    *engine = &uring->engine;
    return 0;

unwind_event:
    close(uring->engine.event_fd);
unwind_ring:
    io_uring_queue_exit(&uring->ring);
unwind_memory:
    free(uring);
    return error_set(err, rc, "io_uring: %s", step);
}
