/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio disk (virtio 1.2, 5.2) in three files: the device (virtio_block.c), the thread of
 * each queue (virtio_block_queue.c), and what a request says and how far it has come
 * (virtio_block_request.c).
 */
#ifndef KVM_SHIM_VIRTIO_BLOCK_H
#define KVM_SHIM_VIRTIO_BLOCK_H

#include <linux/virtio_blk.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "block_engine.h"
#include "block_file.h"
#include "io_thread.h"
#include "limiter.h"
#include "virtio_device.h"

enum {
    BLOCK_BOUNCES = 4, /* for each queue of a disk with direct I/O */
    BLOCK_BOUNCE_SIZE = 256 << 10,
    BLOCK_ZEROES_SIZE = 64 << 10,
    BLOCK_SEGMENTS_SPARE = 4, /* a buffer that crosses memory slots is two segments */
    BLOCK_DISCARD_SECTORS = 1 << 22,
    BLOCK_WRITE_ZEROES_SECTORS = 1 << 18, /* small: some hosts have them written one by one */
};

struct block_bounce {
    uint8_t *data;
    struct block_bounce *next; /* free */
};

struct block_request {
    struct block_io io; /* first: the engine gives back a pointer to it */
    struct virtqueue_chain chain;
    struct block_queue *queue;
    struct block_request *next; /* free */

    uint32_t type; /* VIRTIO_BLK_T_* */
    uint8_t *status; /* where the guest looks for it */
    uint8_t outcome; /* VIRTIO_BLK_S_*: to be its status */
    uint64_t bytes;  /* of data, from or to the disk */
    uint64_t done;   /* of these */
    struct iovec *segments; /* of the guest's data, from `done` on */
    uint32_t segment_count;
    bool unaligned; /* for direct I/O: needs a bounce buffer */
    bool zeroing;   /* writes zeroes one by one: the host cannot do it at once */
    struct block_bounce *bounce;
    struct iovec piece; /* of the bounce buffer */
    uint64_t started_ns;
};

/* Written by one thread, read by all. */
struct block_latency {
    _Atomic uint64_t min_ns, max_ns, sum_ns;
};

struct block_counters {
    _Atomic uint64_t read_bytes, write_bytes, read_ops, write_ops;
    _Atomic uint64_t flush_ops, discard_ops, write_zeroes_ops, io_errors, throttled_ns;
    struct block_latency read, write;
};

struct block_queue {
    struct virtio_block *block;
    struct virtqueue *ring; /* NULL while stopped */
    struct io_thread thread;
    struct block_engine *engine;
    struct io_watch kick, completion, timer;
    int timer_fd;
    uint64_t throttled_at; /* 0: the limiter lets requests through */
    struct block_request *requests, *free;
    struct iovec *segments; /* of all requests */
    struct block_bounce bounces[BLOCK_BOUNCES], *free_bounce;
    uint8_t *bounce_memory; /* NULL: none is ever needed */
    bool starved;           /* the next request needs one that is in use */
    uint32_t in_flight;
    struct block_counters counters;
};

struct virtio_block {
    struct virtio_device virtio;
    struct block_file file;
    struct limiter *limiter;
    bool readonly;
    char serial[VIRTIO_BLK_ID_BYTES];
    struct virtio_blk_config config; /* as at creation */
    uint8_t *zeroes;
    _Atomic bool writethrough; /* a write is acknowledged when it is durable, not before */
    uint16_t queue_count;
    struct block_queue *queues;
};

/* ---- virtio_block_request.c ------------------------------------------------- */

enum block_step {
    BLOCK_GO,     /* request->io is for the engine */
    BLOCK_ANSWER, /* it is over: request->outcome is its status */
    BLOCK_BROKEN, /* nothing can be answered */
};

/* What does the chain ask for? It may be put back after that. */
enum block_step block_request_parse(struct block_request *request);
/* Prepare the first operation of one that goes. */
void block_request_begin(struct block_request *request);
/* The operation is done. Go on with the next, or answer? */
enum block_step block_request_continue(struct block_request *request);
/* Bytes of the chain that the answer has written, its status included. */
uint32_t block_request_written(const struct block_request *request);

/* ---- virtio_block_queue.c --------------------------------------------------- */

/* The thread, held, with its engine and all memory; harmless to undo half of it. */
int block_queue_create(struct block_queue *queue, const kvmshim_vm *vm, const char *name,
                       uint16_t size, uint8_t engine, kvmshim_error *err);
void block_queue_destroy(struct block_queue *queue);
/* Held; and after stop, which completes what is in flight, it is again. */
int block_queue_start(struct block_queue *queue, struct virtqueue *ring, kvmshim_error *err);
int block_queue_hold(struct block_queue *queue, uint64_t deadline_ns);
int block_queue_drain(struct block_queue *queue, uint64_t deadline_ns);
void block_queue_release(struct block_queue *queue);
void block_queue_stop(struct block_queue *queue);

#endif
