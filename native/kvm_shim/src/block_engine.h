/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What carries out a disk's operations on its file, out of the way of the thread that asks:
 * io_uring, or a pool of threads where the host refuses that. One engine serves one queue,
 * and all calls come from that queue's thread.
 */
#ifndef KVM_SHIM_BLOCK_ENGINE_H
#define KVM_SHIM_BLOCK_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "kvm_shim.h"

enum block_op {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,
    BLOCK_PUNCH, /* zeroes, deallocated */
    BLOCK_ZERO,  /* zeroes, allocated */
};

/* One operation, embedded in whoever wants it; his again once it is reaped. */
struct block_io {
    enum block_op op;
    bool durable; /* a write ends when it would survive a loss of power */
    struct iovec *iov; /* of reads and writes; at most IOV_MAX */
    uint32_t iov_count;
    uint64_t offset;
    uint64_t length; /* of PUNCH and ZERO */
    int64_t result;  /* bytes, or -errno */
    struct block_io *next;
};

struct block_engine;

struct block_engine_ops {
    int kind; /* KVMSHIM_BLOCK_URING or KVMSHIM_BLOCK_THREADS */
    /* Note an operation for the next submit. At most `depth` are under way at a time. */
    void (*queue)(struct block_engine *engine, struct block_io *io);
    /* Have what was queued begin. False when something is left that the host cannot take now:
     * try again. */
    bool (*submit)(struct block_engine *engine);
    /* The next that is done; NULL when none is. */
    struct block_io *(*reap)(struct block_engine *engine);
    /* Have event_fd readable from the next completion on (as at first), or no more. Arming
     * returns true when one came meanwhile: reap, or it is missed. */
    bool (*arm)(struct block_engine *engine);
    void (*disarm)(struct block_engine *engine);
    /* Nothing is under way. When it returns the file is not held any more, nor are its locks. */
    void (*close)(struct block_engine *engine);
};

struct block_engine {
    const struct block_engine_ops *ops;
    int event_fd; /* non-blocking */
};

/* An engine for the thread that calls, on a file that stays open longer; `name` is what ps
 * shows of threads. */
int block_uring_open(struct block_engine **engine, int fd, uint32_t depth, kvmshim_error *err);
int block_threads_open(struct block_engine **engine, int fd, uint32_t depth, const kvmshim_vm *vm,
                       const char *name, kvmshim_error *err);

#endif
