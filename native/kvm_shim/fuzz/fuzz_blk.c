/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk, on an engine that carries out what it is told in memory: at once or late, in parts,
 * or not at all, as the input says.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "block_engine.h"
#include "block_file.h"
#include "virtio.h"

enum {
    /* A request for queue number `region` % 2, as a driver makes it: of type data[0] at sector
     * `offset`, with data[1] % 8 sectors and data[2] bytes of data, at data[3] * 16 + data[4]
     * behind the buffers' start. For discard and write-zeroes, data[5..7] is the range. */
    TARGET_REQUEST = ACTION_TARGET,
    TARGET_RESULTS, /* how the next operations end: 8 of enum result, over and over */
    TARGET_KEEP,    /* keep what is submitted from now on ... */
    TARGET_LET_GO,  /* ... until now */

    /* Of an input's first byte. */
    OPTION_READONLY = 1,
    OPTION_SPARSE = 2,
    OPTION_DIRECT = 4,
    OPTION_LIMITED = 8,
    OPTION_NO_FLUSH = 16,

    DISK_SIZE = 0x8000,
    QUEUES = 2,
    IN_FLIGHT_MAX = 64,
};

enum result {
    RESULT_ALL,
    RESULT_PART,
    RESULT_ONE, /* byte */
    RESULT_END, /* of the file */
    RESULT_INTERRUPTED,
    RESULT_UNSUPPORTED,
    RESULT_ERROR,
    RESULTS,
};

static _Thread_local struct {
    uint8_t *data;
    bool direct, keep;
    uint8_t results[8];
    uint32_t next_result, interruptions;
} disk;

/* ---- the file --------------------------------------------------------------- */

int block_file_open(struct block_file *file, int fd, bool readonly, kvmshim_error *err)
{
    FUZZ_CHECK(fd == -1 && (err == NULL || readonly || !readonly));
    *file = (struct block_file){
        .fd = -1,
        .size = DISK_SIZE,
        .block_size = BLOCK_SECTOR,
        .physical_size = 4096,
        .direct = disk.direct,
        .punch = true,
    };
    return 0;
}

void block_file_close(struct block_file *file)
{
    FUZZ_CHECK(file->fd == -1);
}

/* ---- the engine --------------------------------------------------------------- */

struct fuzz_engine {
    struct block_engine engine; /* first */
    struct block_io *queued[IN_FLIGHT_MAX], *submitted[IN_FLIGHT_MAX];
    uint32_t queued_count, submitted_count;
    bool armed;
};

static void engine_queue(struct block_engine *engine, struct block_io *io)
{
    struct fuzz_engine *self = (struct fuzz_engine *)engine;

    FUZZ_CHECK(self->queued_count + self->submitted_count < IN_FLIGHT_MAX);
    self->queued[self->queued_count++] = io;
}

static bool engine_submit(struct block_engine *engine)
{
    struct fuzz_engine *self = (struct fuzz_engine *)engine;

    for (uint32_t i = 0; i < self->queued_count; i++)
        self->submitted[self->submitted_count++] = self->queued[i];
    if (self->queued_count > 0 && self->armed)
        eventfd_write(engine->event_fd, 1);
    self->queued_count = 0;
    return true;
}

static int64_t transfer(const struct block_io *io, uint64_t limit)
{
    uint64_t done = 0;

    FUZZ_CHECK(io->iov_count > 0 && io->iov_count <= 1024);
    for (uint32_t i = 0; i < io->iov_count; i++) {
        uint64_t part = io->iov[i].iov_len;

        FUZZ_CHECK(io->offset + done + part <= DISK_SIZE);
        if (part > limit - done)
            part = limit - done;
        if (io->op == BLOCK_READ)
            memcpy(io->iov[i].iov_base, disk.data + io->offset + done, part);
        else
            memcpy(disk.data + io->offset + done, io->iov[i].iov_base, part);
        done += part;
    }
    return (int64_t)done;
}

static int64_t perform(const struct block_io *io)
{
    uint8_t result = disk.results[disk.next_result++ % sizeof(disk.results)] % RESULTS;

    if (result == RESULT_INTERRUPTED && disk.interruptions++ < 3)
        return -EINTR;
    disk.interruptions = 0;
    if (result == RESULT_ERROR)
        return -EIO;
    switch (io->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        return transfer(io, result == RESULT_END    ? 0
                            : result == RESULT_ONE  ? 1
                            : result == RESULT_PART ? 4096
                                                    : UINT64_MAX);
    case BLOCK_PUNCH:
    case BLOCK_ZERO:
        if (result == RESULT_UNSUPPORTED)
            return -EOPNOTSUPP;
        FUZZ_CHECK(io->length > 0 && io->offset < DISK_SIZE &&
                   io->length <= DISK_SIZE - io->offset);
        memset(disk.data + io->offset, 0, io->length);
        return 0;
    case BLOCK_FLUSH:
        return 0;
    }
    FUZZ_CHECK(!"an operation that is none");
    return 0;
}

static struct block_io *engine_reap(struct block_engine *engine)
{
    struct fuzz_engine *self = (struct fuzz_engine *)engine;
    struct block_io *io;

    if (disk.keep || self->submitted_count == 0)
        return NULL;
    io = self->submitted[--self->submitted_count]; /* the last first: order means nothing */
    io->result = perform(io);
    return io;
}

static bool engine_arm(struct block_engine *engine)
{
    struct fuzz_engine *self = (struct fuzz_engine *)engine;

    self->armed = true;
    return !disk.keep && self->submitted_count > 0;
}

static void engine_disarm(struct block_engine *engine)
{
    ((struct fuzz_engine *)engine)->armed = false;
}

static void engine_close(struct block_engine *engine)
{
    struct fuzz_engine *self = (struct fuzz_engine *)engine;

    FUZZ_CHECK(self->queued_count + self->submitted_count == 0);
    close(engine->event_fd);
    free(self);
}

static const struct block_engine_ops engine_ops = {
    .kind = KVMSHIM_BLOCK_URING,
    .queue = engine_queue,
    .submit = engine_submit,
    .reap = engine_reap,
    .arm = engine_arm,
    .disarm = engine_disarm,
    .close = engine_close,
};

int block_uring_open(struct block_engine **engine, int fd, uint32_t depth, kvmshim_error *err)
{
    struct fuzz_engine *self = calloc(1, sizeof(*self));

    FUZZ_CHECK(self && fd == -1 && depth <= IN_FLIGHT_MAX && (err == NULL || depth > 0));
    self->engine.ops = &engine_ops;
    self->engine.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    self->armed = true;
    *engine = &self->engine;
    return 0;
}

int block_threads_open(struct block_engine **engine, int fd, uint32_t depth, const kvmshim_vm *vm,
                       const char *name, kvmshim_error *err)
{
    FUZZ_CHECK(vm && name[0]);
    return block_uring_open(engine, fd, depth, err);
}

/* The device waits for its operations: they may not be kept any longer. */
int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    FUZZ_CHECK(fds && count == 1 && timeout && mask == NULL && disk.keep);
    disk.keep = false;
    return 0;
}

/* The limiter's time is the input's; its timer's is too long to wait for. */
int timerfd_settime(int fd, int flags, const struct itimerspec *wanted, struct itimerspec *old)
{
    struct itimerspec soon = *wanted;

    if (soon.it_value.tv_sec != 0 || soon.it_value.tv_nsec != 0)
        soon.it_value = (struct timespec){.tv_nsec = 1};
    return (int)syscall(SYS_timerfd_settime, fd, flags, &soon, old);
}

/* ---- records ---------------------------------------------------------------------- */

static void describe(kvmshim_vm *vm, uint64_t queue, uint16_t at, uint64_t address, uint32_t size,
                     uint16_t flags)
{
    const struct vring_desc desc = {
        .addr = address, .len = size, .flags = flags, .next = (uint16_t)(at + 1)};

    fuzz_poke(vm, queue + at * sizeof(desc), &desc, sizeof(desc));
}

static void request(kvmshim_vm *vm, const struct fuzz_record *record)
{
    const uint64_t queue = FUZZ_QUEUE(record->region % QUEUES), avail = queue + 0x100;
    uint16_t index, head;
    uint32_t size = record->data[1] % 8 * 512u + record->data[2];
    uint64_t data = FUZZ_BUFFERS + 0x1000 + record->data[3] * 16u + record->data[4];
    bool writes = record->data[0] == VIRTIO_BLK_T_IN || record->data[0] == VIRTIO_BLK_T_GET_ID;
    struct virtio_blk_outhdr header = {.type = record->data[0], .sector = record->offset};
    struct virtio_blk_discard_write_zeroes range = {
        .sector = record->data[5], .num_sectors = record->data[6], .flags = record->data[7]};

    memcpy(&index, vm->ram[0] + avail + 2, sizeof(index));
    head = index % 5 * 3;
    fuzz_poke(vm, FUZZ_BUFFERS + head * 16u, &header, sizeof(header));
    if (record->data[0] == VIRTIO_BLK_T_DISCARD || record->data[0] == VIRTIO_BLK_T_WRITE_ZEROES)
        fuzz_poke(vm, data, &range, sizeof(range));
    describe(vm, queue, head, FUZZ_BUFFERS + head * 16u, sizeof(header), VRING_DESC_F_NEXT);
    describe(vm, queue, (uint16_t)(head + 1), data, size,
             VRING_DESC_F_NEXT | (writes ? VRING_DESC_F_WRITE : 0));
    describe(vm, queue, (uint16_t)(head + 2), FUZZ_BUFFERS + 0x800 + head, 1, VRING_DESC_F_WRITE);
    fuzz_poke(vm, avail + 4 + 2u * (index % FUZZ_QUEUE_SIZE), &head, sizeof(head));
    index++;
    fuzz_poke(vm, avail + 2, &index, sizeof(index));
}

static void act(void *opaque, const struct fuzz_record *record)
{
    switch (record->action) {
    case TARGET_REQUEST:
        request(opaque, record);
        break;
    case TARGET_RESULTS:
        memcpy(disk.results, record->data, sizeof(disk.results));
        break;
    case TARGET_KEEP:
        disk.keep = true;
        break;
    case TARGET_LET_GO:
        disk.keep = false;
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const kvmshim_bucket bandwidth = {.size = 4096, .refill_ms = 10, .one_time_burst = 8192};
    const kvmshim_bucket operations = {.size = 2, .refill_ms = 1};
    uint8_t options = size ? data[0] : 0;
    kvmshim_block_config config = {
        .fd = -1,
        .readonly = options & OPTION_READONLY,
        .sparse = (options & OPTION_SPARSE) != 0,
        .num_queues = QUEUES,
        .queue_size = FUZZ_QUEUE_SIZE,
        .serial = "fuzzed",
    };
    kvmshim_vm vm = {0};
    kvmshim_place place;
    kvmshim_device *block;

    memset(&disk, 0, sizeof(disk));
    disk.direct = options & OPTION_DIRECT;
    disk.data = calloc(1, DISK_SIZE);
    fuzz_virtio_begin(&vm);
    place = fuzz_place(&vm, 1);
    if (options & OPTION_LIMITED)
        FUZZ_CHECK(kvmshim_limiter_create(&vm, &bandwidth, &operations, &config.limiter, NULL) ==
                   0);
    FUZZ_CHECK(kvmshim_block_create(&vm, &place, &config, &block, NULL) == 0);
    fuzz_virtio_ready(&vm, block,
                      options & OPTION_NO_FLUSH ? ~(UINT64_C(1) << VIRTIO_BLK_F_FLUSH)
                                                : UINT64_MAX);
    if (size)
        fuzz_virtio_play(&vm, block, data + 1, size - 1, act, &vm);
    fuzz_end(&vm);
    free(disk.data);
    return 0;
}
