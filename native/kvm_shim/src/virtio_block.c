/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio disk: what it offers, its configuration space, its life. */
#include "virtio_block.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"

enum {
    CLASS_STORAGE = 0x018000, /* mass storage, other */
    NAME_SIZE = 16,           /* of a thread, as the kernel has it */
    /* Up to the fields of secure erase, which is not offered. */
    CONFIG_SIZE = offsetof(struct virtio_blk_config, max_secure_erase_sectors),
    CONFIG_WRITEBACK = offsetof(struct virtio_blk_config, wce),
};

static struct virtio_block *block_of(struct virtio_device *device)
{
    return (struct virtio_block *)device;
}

/* ---- the write cache (5.2.6.2) ------------------------------------------------ */

static void block_set_writeback(struct virtio_block *block, uint8_t writeback)
{
    if (block->virtio.config[CONFIG_WRITEBACK] != writeback)
        virtio_config_set(&block->virtio, CONFIG_WRITEBACK, &writeback, sizeof(writeback));
    atomic_store_explicit(&block->writethrough, writeback == 0, memory_order_relaxed);
}

static void block_config_written(struct virtio_device *device, uint32_t offset,
                                 const uint8_t *data, uint32_t size)
{
    struct virtio_block *block = block_of(device);
    bool was = atomic_load_explicit(&block->writethrough, memory_order_relaxed);

    if (!virtio_has(device, VIRTIO_BLK_F_CONFIG_WCE) || !virtio_has(device, VIRTIO_BLK_F_FLUSH) ||
        offset > CONFIG_WRITEBACK || offset + size <= CONFIG_WRITEBACK)
        return;
    block_set_writeback(block, data[CONFIG_WRITEBACK - offset] != 0);
    /* A driver without a cache sends no flush, not for what it wrote before either. */
    if (block->writethrough && !was && fdatasync(block->file.fd) < 0)
        virtio_log(device, "flush when the write cache was turned off failed: %s",
                   strerrordesc_np(errno));
}

/* A driver that does not know flushes has no cache. */
static void block_choose_cache(struct virtio_block *block)
{
    if (!virtio_has(&block->virtio, VIRTIO_BLK_F_FLUSH))
        block_set_writeback(block, 0);
    else
        block_set_writeback(block, block->virtio.config[CONFIG_WRITEBACK]);
}

/* ---- start and stop ------------------------------------------------------------ */

static void block_stop_queues(struct virtio_block *block)
{
    for (uint16_t i = 0; i < block->queue_count; i++)
        if (block->queues[i].ring != NULL)
            block_queue_stop(&block->queues[i]);
}

static void block_release_queues(struct virtio_block *block)
{
    for (uint16_t i = 0; i < block->queue_count; i++)
        if (block->queues[i].ring != NULL)
            block_queue_release(&block->queues[i]);
}

static int block_start(struct virtio_device *device, kvmshim_error *err)
{
    struct virtio_block *block = block_of(device);

    block_choose_cache(block);
    for (uint16_t i = 0; i < block->queue_count; i++) {
        if (device->queues[i].enabled) {
            int rc = block_queue_start(&block->queues[i], &device->queues[i], err);

            if (rc < 0) {
                block_stop_queues(block);
                return rc;
            }
        }
    }
    block_release_queues(block);
    return 0;
}

static int block_stop(struct virtio_device *device, uint64_t deadline_ns)
{
    struct virtio_block *block = block_of(device);
    int rc = 0;

    /* All stand still before the first is drained: together they have the time of one. */
    for (uint16_t i = 0; i < block->queue_count && rc == 0; i++)
        if (block->queues[i].ring != NULL)
            rc = block_queue_hold(&block->queues[i], deadline_ns);
    for (uint16_t i = 0; i < block->queue_count && rc == 0; i++)
        if (block->queues[i].ring != NULL)
            rc = block_queue_drain(&block->queues[i], deadline_ns);
    if (rc < 0) {
        block_release_queues(block);
        return rc;
    }
    block_stop_queues(block);
    return 0;
}

static void block_reset(struct virtio_device *device)
{
    block_set_writeback(block_of(device), 1);
}

/* All there is to load is in the configuration space: the write cache, and what must be as it
 * is here, since the driver has read it. */
static int block_load(struct virtio_device *device, const void *state, kvmshim_error *err)
{
    struct virtio_blk_config config = block_of(device)->config;
    uint8_t writeback = device->config[CONFIG_WRITEBACK];
    uint64_t capacity;

    (void)state;
    if (writeback > 1)
        return error_set(err, -EINVAL, "%s state: a write cache of %u", device->id, writeback);
    memcpy(&capacity, device->config, sizeof(capacity));
    if (capacity != config.capacity)
        return error_set(err, -EINVAL, "%s state: of a disk of %" PRIu64 " sectors, not %" PRIu64,
                         device->id, le64toh(capacity), (uint64_t)le64toh(config.capacity));
    config.wce = writeback;
    if (memcmp(device->config, &config, CONFIG_SIZE) != 0)
        return error_set(err, -EINVAL, "%s state: of a disk with other properties", device->id);
    return 0;
}

/* ---- counters ------------------------------------------------------------------- */

struct latency {
    uint64_t min_ns, max_ns, sum_ns;
};

static uint64_t counted(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void latency_merge(struct latency *all, const struct block_latency *latency)
{
    uint64_t min = counted(&latency->min_ns), max = counted(&latency->max_ns);

    if (all->min_ns == 0 || (min != 0 && min < all->min_ns))
        all->min_ns = min;
    if (max > all->max_ns)
        all->max_ns = max;
    all->sum_ns += counted(&latency->sum_ns);
}

static void latency_report(struct counters *counters, const struct latency *latency,
                           const char *name, uint64_t operations)
{
    counters_add(counters, latency->min_ns / 1000, "%s_latency_min", name);
    counters_add(counters, latency->max_ns / 1000, "%s_latency_max", name);
    counters_add(counters, operations == 0 ? 0 : latency->sum_ns / operations / 1000,
                 "%s_latency_avg", name);
    counters_add(counters, latency->sum_ns / 1000, "%s_latency_sum", name);
}

static void block_counters(struct virtio_device *device, struct counters *counters)
{
    static const struct {
        const char *name;
        size_t offset;
    } sums[] = {
        {"read_bytes", offsetof(struct block_counters, read_bytes)},
        {"read_ops", offsetof(struct block_counters, read_ops)},
        {"write_bytes", offsetof(struct block_counters, write_bytes)},
        {"write_ops", offsetof(struct block_counters, write_ops)},
        {"flush_ops", offsetof(struct block_counters, flush_ops)},
        {"discard_ops", offsetof(struct block_counters, discard_ops)},
        {"write_zeroes_ops", offsetof(struct block_counters, write_zeroes_ops)},
        {"io_errors", offsetof(struct block_counters, io_errors)},
    };
    const struct virtio_block *block = block_of(device);
    uint64_t reads = 0, writes = 0, throttled_ns = 0;
    struct latency read = {0}, write = {0};

    for (size_t i = 0; i < sizeof(sums) / sizeof(*sums); i++) {
        uint64_t sum = 0;

        for (uint16_t j = 0; j < block->queue_count; j++)
            sum += counted((const _Atomic uint64_t *)((const uint8_t *)&block->queues[j].counters +
                                                      sums[i].offset));
        counters_add(counters, sum, "%s", sums[i].name);
    }
    for (uint16_t i = 0; i < block->queue_count; i++) {
        const struct block_counters *queue = &block->queues[i].counters;

        reads += counted(&queue->read_ops);
        writes += counted(&queue->write_ops);
        throttled_ns += counted(&queue->throttled_ns);
        latency_merge(&read, &queue->read);
        latency_merge(&write, &queue->write);
    }
    counters_add(counters, throttled_ns / 1000, "throttled_us");
    latency_report(counters, &read, "read", reads);
    latency_report(counters, &write, "write", writes);
}

/* ---- creation ------------------------------------------------------------------- */

static void block_destroy(struct virtio_device *device)
{
    struct virtio_block *block = block_of(device);

    for (uint16_t i = 0; i < block->queue_count; i++)
        block_queue_destroy(&block->queues[i]);
    free(block->queues);
    free(block->zeroes);
    block_file_close(&block->file);
    free(block);
}

static const struct virtio_ops block_ops = {
    .name = "virtio-blk",
    .type = VIRTIO_ID_BLOCK,
    .class_code = CLASS_STORAGE,
    .version = 1,
    .start = block_start,
    .stop = block_stop,
    .destroy = block_destroy,
    .reset = block_reset,
    .config_written = block_config_written,
    .load = block_load,
    .counters = block_counters,
};

static uint64_t block_features(const struct virtio_block *block, bool sparse)
{
    uint64_t features = UINT64_C(1) << VIRTIO_BLK_F_SEG_MAX | UINT64_C(1) << VIRTIO_BLK_F_BLK_SIZE |
                        UINT64_C(1) << VIRTIO_BLK_F_TOPOLOGY | UINT64_C(1) << VIRTIO_BLK_F_FLUSH |
                        UINT64_C(1) << VIRTIO_BLK_F_CONFIG_WCE;

    if (block->queue_count > 1)
        features |= UINT64_C(1) << VIRTIO_BLK_F_MQ;
    if (block->readonly)
        features |= UINT64_C(1) << VIRTIO_BLK_F_RO;
    else if (sparse && block->file.punch)
        features |= UINT64_C(1) << VIRTIO_BLK_F_DISCARD |
                    UINT64_C(1) << VIRTIO_BLK_F_WRITE_ZEROES;
    return features;
}

static void block_configure(struct virtio_block *block, uint16_t queue_size)
{
    const struct block_file *file = &block->file;
    uint32_t blocks = file->physical_size / file->block_size; /* a power of two */

    block->config = (struct virtio_blk_config){
        .capacity = htole64(file->size / BLOCK_SECTOR),
        .seg_max = htole32(queue_size - 2u), /* header and status take a descriptor each */
        .blk_size = htole32(file->block_size),
        .physical_block_exp = (uint8_t)__builtin_ctz(blocks),
        .min_io_size = htole16((uint16_t)blocks),
        .opt_io_size = htole32(file->optimal_size / file->block_size),
        .wce = 1,
        .num_queues = htole16(block->queue_count),
        .max_discard_sectors = htole32(BLOCK_DISCARD_SECTORS),
        .max_discard_seg = htole32(1),
        .discard_sector_alignment = htole32(file->physical_size / BLOCK_SECTOR),
        .max_write_zeroes_sectors = htole32(BLOCK_WRITE_ZEROES_SECTORS),
        .max_write_zeroes_seg = htole32(1),
        .write_zeroes_may_unmap = 1,
    };
}

static int block_create_queues(struct virtio_block *block, const kvmshim_vm *vm,
                               const kvmshim_block_config *config, const char *id,
                               kvmshim_error *err)
{
    block->queues = calloc(config->num_queues, sizeof(*block->queues));
    if (block->queues == NULL)
        return error_set(err, -ENOMEM, "disk: allocate %u queues", config->num_queues);
    while (block->queue_count < config->num_queues) {
        struct block_queue *queue = &block->queues[block->queue_count];
        char name[NAME_SIZE];
        int rc;

        snprintf(name, sizeof(name), "%.9s-q%u", id, block->queue_count++ % 1000u);
        queue->block = block;
        rc = block_queue_create(queue, vm, name, config->queue_size, config->engine, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int block_check(const kvmshim_block_config *config, kvmshim_error *err)
{
    if (config->queue_size < 4 || config->queue_size > VIRTQUEUE_SIZE_MAX ||
        (config->queue_size & (config->queue_size - 1)) != 0)
        return error_set(err, -EINVAL, "disk: a queue of %u is no power of two from 4 to %u",
                         config->queue_size, VIRTQUEUE_SIZE_MAX);
    if (config->num_queues == 0 || config->num_queues > VIRTIO_QUEUES_MAX)
        return error_set(err, -EINVAL, "disk: %u queues, not 1 to %u", config->num_queues,
                         VIRTIO_QUEUES_MAX);
    if (config->engine > KVMSHIM_BLOCK_THREADS)
        return error_set(err, -EINVAL, "disk: there is no engine %u", config->engine);
    return 0;
}

/* What an operator would otherwise wonder about. */
static void block_report(struct virtio_block *block, const kvmshim_block_config *config)
{
    if (block->file.remainder != 0)
        virtio_log(&block->virtio, "the last %u bytes of the image are no whole block of %u and "
                                   "are left out",
                   block->file.remainder, block->file.block_size);
    if (config->engine == KVMSHIM_BLOCK_AUTO &&
        block->queues[0].engine->ops->kind == KVMSHIM_BLOCK_THREADS)
        virtio_log(&block->virtio, "io_uring is not to be had: a pool of threads does its work");
}

/* All that can fail before the guest sees the device. */
static int block_prepare(struct virtio_block *block, const kvmshim_vm *vm,
                         const kvmshim_place *place, const kvmshim_block_config *config,
                         kvmshim_error *err)
{
    int rc = limiter_of(config->limiter, &block->limiter, err);

    if (rc == 0)
        rc = block_create_queues(block, vm, config, place->id, err);
    if (rc < 0)
        return rc;
    if (posix_memalign((void **)&block->zeroes, BLOCK_ZEROES_SIZE, BLOCK_ZEROES_SIZE) != 0)
        return error_set(err, -ENOMEM, "disk: allocate zeroes");
    memset(block->zeroes, 0, BLOCK_ZEROES_SIZE);
    memcpy(block->serial, config->serial, sizeof(block->serial));
    block_configure(block, config->queue_size);
    return 0;
}

int kvmshim_block_create(kvmshim_vm *vm, const kvmshim_place *place,
                         const kvmshim_block_config *config, kvmshim_device **device,
                         kvmshim_error *err)
{
    uint16_t sizes[VIRTIO_QUEUES_MAX];
    struct virtio_block *block;
    int rc = block_check(config, err);

    if (rc < 0)
        return rc;
    block = calloc(1, sizeof(*block));
    if (block == NULL)
        return error_set(err, -ENOMEM, "disk: allocate");
    block->readonly = config->readonly != 0;
    rc = block_file_open(&block->file, config->fd, block->readonly, err);
    if (rc < 0) {
        free(block);
        return rc;
    }
    rc = block_prepare(block, vm, place, config, err);
    for (uint16_t i = 0; i < config->num_queues; i++)
        sizes[i] = config->queue_size;
    if (rc == 0)
        rc = virtio_create(&block->virtio, vm, place, &block_ops,
                           block_features(block, config->sparse != 0), &block->config, CONFIG_SIZE,
                           sizes, config->num_queues, err);
    if (rc < 0) {
        block_destroy(&block->virtio);
        return rc;
    }
    block_report(block, config);
    if (device != NULL)
        *device = &block->virtio.device;
    return 0;
}

int kvmshim_block_engine(kvmshim_device *device, kvmshim_error *err)
{
    struct virtio_device *virtio = virtio_cast(device, &block_ops, err);

    return virtio == NULL ? -EINVAL : block_of(virtio)->queues[0].engine->ops->kind;
}
