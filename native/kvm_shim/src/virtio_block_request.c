/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request: 16 bytes of header, data, and a status byte, which is the last byte that the
 * device may write (virtio 1.2, 5.2.6). How they are cut into segments is the driver's choice.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "virtio_block.h"

static bool block_changes(const struct block_request *request)
{
    return request->type == VIRTIO_BLK_T_OUT || request->type == VIRTIO_BLK_T_DISCARD ||
           request->type == VIRTIO_BLK_T_WRITE_ZEROES;
}

static enum block_step block_answer(struct block_request *request, uint8_t outcome)
{
    request->outcome = outcome;
    return BLOCK_ANSWER;
}

/* ---- taking a chain apart --------------------------------------------------- */

/* Cut `size` bytes, which are there, off the front of the segments. */
static void segments_cut(struct iovec **segments, uint32_t *count, uint64_t size)
{
    while (*count > 0 && size >= (*segments)->iov_len) {
        size -= (*segments)->iov_len;
        (*segments)++;
        (*count)--;
    }
    if (size > 0) {
        (*segments)->iov_base = (uint8_t *)(*segments)->iov_base + size;
        (*segments)->iov_len -= size;
    }
}

/* Copy the first `size` bytes, which are there, between the segments and a buffer. */
static void segments_copy(const struct iovec *segments, uint8_t *buffer, uint64_t size,
                          bool to_segments)
{
    for (; size > 0; segments++) {
        size_t part = segments->iov_len < size ? segments->iov_len : size;

        if (to_segments)
            memcpy(segments->iov_base, buffer, part);
        else
            memcpy(buffer, segments->iov_base, part);
        buffer += part;
        size -= part;
    }
}

/* Take the last writable byte, which is there, as the status. */
static void block_find_status(struct block_request *request)
{
    struct virtqueue_chain *chain = &request->chain;
    struct iovec *last = &chain->iov[chain->readable + chain->writable - 1];

    while (last->iov_len == 0) {
        last--;
        chain->writable--;
    }
    last->iov_len--;
    request->status = (uint8_t *)last->iov_base + last->iov_len;
    if (last->iov_len == 0)
        chain->writable--;
}

static bool block_in_range(const struct virtio_block *block, uint64_t sector, uint64_t sectors)
{
    uint64_t capacity = block->file.size / BLOCK_SECTOR;

    return sector <= capacity && sectors <= capacity - sector;
}

static bool block_is_unaligned(const struct block_request *request)
{
    const struct block_file *file = &request->queue->block->file;
    uintptr_t all = 0;

    if (!file->direct)
        return false;
    for (uint32_t i = 0; i < request->segment_count; i++)
        all |= (uintptr_t)request->segments[i].iov_base | request->segments[i].iov_len;
    return (all & (file->block_size - 1)) != 0;
}

static enum block_step block_parse_transfer(struct block_request *request, uint64_t sector)
{
    const struct virtio_block *block = request->queue->block;
    const struct virtqueue_chain *chain = &request->chain;
    bool read = request->type == VIRTIO_BLK_T_IN;
    uint64_t bytes = read ? chain->writable_bytes - 1
                          : chain->readable_bytes - sizeof(struct virtio_blk_outhdr);
    uint32_t unit = block->file.direct ? block->file.block_size : BLOCK_SECTOR;

    if ((!read && block->readonly) || bytes % unit != 0 ||
        !block_in_range(block, sector, bytes / BLOCK_SECTOR) || sector * BLOCK_SECTOR % unit != 0)
        return block_answer(request, VIRTIO_BLK_S_IOERR);
    if (bytes == 0)
        return block_answer(request, VIRTIO_BLK_S_OK);
    if (read) {
        request->segments = chain->iov + chain->readable;
        request->segment_count = chain->writable;
    }
    request->bytes = bytes;
    request->io.op = read ? BLOCK_READ : BLOCK_WRITE;
    request->io.offset = sector * BLOCK_SECTOR;
    request->unaligned = block_is_unaligned(request);
    return BLOCK_GO;
}

/* Discard and write-zeroes (5.2.6.2): one range, which is what the configuration space says. */
static enum block_step block_parse_range(struct block_request *request)
{
    const struct virtio_block *block = request->queue->block;
    bool discard = request->type == VIRTIO_BLK_T_DISCARD;
    uint32_t limit = discard ? BLOCK_DISCARD_SECTORS : BLOCK_WRITE_ZEROES_SECTORS;
    struct virtio_blk_discard_write_zeroes range;
    uint32_t sectors, flags, known = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

    if (!virtio_has(&block->virtio,
                    discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
        return block_answer(request, VIRTIO_BLK_S_UNSUPP);
    if (request->chain.readable_bytes != sizeof(struct virtio_blk_outhdr) + sizeof(range))
        return block_answer(request, VIRTIO_BLK_S_IOERR);
    virtqueue_read(&request->chain, sizeof(struct virtio_blk_outhdr), &range, sizeof(range));
    flags = le32toh(range.flags);
    sectors = le32toh(range.num_sectors);
    if ((flags & ~known) != 0)
        return block_answer(request, VIRTIO_BLK_S_UNSUPP);
    if (sectors > limit || !block_in_range(block, le64toh(range.sector), sectors))
        return block_answer(request, VIRTIO_BLK_S_IOERR);
    if (sectors == 0)
        return block_answer(request, VIRTIO_BLK_S_OK);
    request->io.op = discard || flags != 0 ? BLOCK_PUNCH : BLOCK_ZERO;
    request->io.offset = le64toh(range.sector) * BLOCK_SECTOR;
    request->bytes = (uint64_t)sectors * BLOCK_SECTOR;
    request->io.length = request->bytes;
    return BLOCK_GO;
}

static enum block_step block_parse_id(struct block_request *request)
{
    uint64_t room = request->chain.writable_bytes - 1;

    request->bytes = room < VIRTIO_BLK_ID_BYTES ? room : VIRTIO_BLK_ID_BYTES;
    virtqueue_write(&request->chain, 0, request->queue->block->serial, request->bytes);
    return block_answer(request, VIRTIO_BLK_S_OK);
}

enum block_step block_request_parse(struct block_request *request)
{
    struct virtqueue_chain *chain = &request->chain;
    struct virtio_blk_outhdr header;
    bool headed;

    if (chain->writable_bytes == 0)
        return BLOCK_BROKEN;
    headed = virtqueue_read(chain, 0, &header, sizeof(header)) == sizeof(header);
    block_find_status(request);
    request->bytes = 0;
    request->done = 0;
    request->unaligned = false;
    request->zeroing = false;
    request->io.durable = false;
    if (!headed) {
        request->type = UINT32_MAX;
        return block_answer(request, VIRTIO_BLK_S_IOERR);
    }
    request->type = le32toh(header.type);
    request->segments = chain->iov;
    request->segment_count = chain->readable;
    switch (request->type) {
    case VIRTIO_BLK_T_IN:
        return block_parse_transfer(request, le64toh(header.sector));
    case VIRTIO_BLK_T_OUT:
        segments_cut(&request->segments, &request->segment_count, sizeof(header));
        return block_parse_transfer(request, le64toh(header.sector));
    case VIRTIO_BLK_T_FLUSH:
        request->io.op = BLOCK_FLUSH;
        return BLOCK_GO;
    case VIRTIO_BLK_T_GET_ID:
        return block_parse_id(request);
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        return block_parse_range(request);
    default:
        return block_answer(request, VIRTIO_BLK_S_UNSUPP);
    }
}

/* ---- one operation after the other ------------------------------------------ */

/* The next part of the data by way of the bounce buffer. */
static void block_bounce(struct block_request *request)
{
    uint64_t left = request->bytes - request->done;

    request->piece.iov_base = request->bounce->data;
    request->piece.iov_len = left < BLOCK_BOUNCE_SIZE ? left : BLOCK_BOUNCE_SIZE;
    request->io.iov = &request->piece;
    request->io.iov_count = 1;
    if (request->io.op == BLOCK_WRITE)
        segments_copy(request->segments, request->bounce->data, request->piece.iov_len, false);
}

/* As many zeroes as the request's segments, which the guest's are not in any more, can name. */
static void block_zeroes(struct block_request *request)
{
    uint64_t left = request->bytes - request->done;
    uint32_t count = 0;

    while (left > 0 && count < request->chain.capacity) {
        struct iovec *segment = &request->chain.iov[count++];

        segment->iov_base = request->queue->block->zeroes;
        segment->iov_len = left < BLOCK_ZEROES_SIZE ? left : BLOCK_ZEROES_SIZE;
        left -= segment->iov_len;
    }
    request->io.op = BLOCK_WRITE;
    request->io.iov = request->chain.iov;
    request->io.iov_count = count < IOV_MAX ? count : IOV_MAX;
}

/* The next operation of a transfer. */
static void block_piece(struct block_request *request)
{
    if (request->zeroing) {
        block_zeroes(request);
    } else if (request->bounce != NULL) {
        block_bounce(request);
    } else {
        request->io.iov = request->segments;
        request->io.iov_count =
            request->segment_count < IOV_MAX ? request->segment_count : IOV_MAX;
    }
}

void block_request_begin(struct block_request *request)
{
    if (request->io.op != BLOCK_READ && request->io.op != BLOCK_WRITE)
        return;
    request->io.durable = request->io.op == BLOCK_WRITE &&
                          atomic_load_explicit(&request->queue->block->writethrough,
                                               memory_order_relaxed);
    block_piece(request);
}

static enum block_step block_failed(struct block_request *request, int error)
{
    static const char *const names[] = {
        [BLOCK_READ] = "read",     [BLOCK_WRITE] = "write",       [BLOCK_FLUSH] = "flush",
        [BLOCK_PUNCH] = "discard", [BLOCK_ZERO] = "write-zeroes",
    };
    const struct block_io *io = &request->io;

    virtio_log(&request->queue->block->virtio, "%s at byte %" PRIu64 " failed: %s%s",
               names[io->op], io->offset, strerrordesc_np(error),
               error == ENOSPC ? "; free space where the image is" : "");
    return block_answer(request, VIRTIO_BLK_S_IOERR);
}

/* All that was asked for is done; but without a write cache it has to be durable, too. The
 * cache may have been turned off meanwhile. */
static enum block_step block_finish(struct block_request *request)
{
    bool writethrough = atomic_load_explicit(&request->queue->block->writethrough,
                                             memory_order_relaxed);

    if (writethrough && block_changes(request) && !request->io.durable &&
        request->io.op != BLOCK_FLUSH) {
        request->io.op = BLOCK_FLUSH;
        return BLOCK_GO;
    }
    return block_answer(request, VIRTIO_BLK_S_OK);
}

static enum block_step block_transferred(struct block_request *request, uint64_t count)
{
    if (request->bounce != NULL && request->type == VIRTIO_BLK_T_IN)
        segments_copy(request->segments, request->bounce->data, count, true);
    if (!request->zeroing)
        segments_cut(&request->segments, &request->segment_count, count);
    request->done += count;
    request->io.offset += count;
    if (request->done == request->bytes)
        return block_finish(request);
    block_piece(request);
    return BLOCK_GO;
}

/* The file system or the disk cannot deallocate, or not zero, parts of a file. */
static enum block_step block_unsupported(struct block_request *request)
{
    if (request->type == VIRTIO_BLK_T_DISCARD)
        return block_answer(request, VIRTIO_BLK_S_OK); /* it was a hint */
    request->zeroing = true;
    block_piece(request);
    return BLOCK_GO;
}

enum block_step block_request_continue(struct block_request *request)
{
    int64_t result = request->io.result;
    bool transfer = request->io.op == BLOCK_READ || request->io.op == BLOCK_WRITE;

    if (result == -EINTR || result == -EAGAIN)
        return BLOCK_GO;
    if (result == -EOPNOTSUPP &&
        (request->io.op == BLOCK_PUNCH || request->io.op == BLOCK_ZERO))
        return block_unsupported(request);
    if (result < 0)
        return block_failed(request, (int)-result);
    if (!transfer)
        return block_finish(request);
    if (result == 0)
        return block_failed(request, EIO); /* the file was cut short */
    return block_transferred(request, (uint64_t)result);
}

uint32_t block_request_written(const struct block_request *request)
{
    bool gives = request->type == VIRTIO_BLK_T_IN || request->type == VIRTIO_BLK_T_GET_ID;

    return (gives && request->outcome == VIRTIO_BLK_S_OK ? (uint32_t)request->bytes : 0) + 1;
}
