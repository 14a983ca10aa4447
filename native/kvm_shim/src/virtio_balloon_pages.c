/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of the balloon: giving back to the host what the guest gives up. */
#include <endian.h>
#include <inttypes.h>

#include "memory.h"
#include "virtio_balloon.h"

enum {
    PFNS_CHUNK = 256,
    PFNS_MAX = 1 << 16, /* in one request; Linux sends 256, and nobody is helped by more */
};

static void balloon_discard(struct virtio_balloon *balloon, void *host, uint64_t size)
{
    kvmshim_error err;
    uint64_t discarded;

    if (memory_discard(balloon->virtio.device.vm, host, size, &discarded, &err) < 0)
        virtio_log(&balloon->virtio, "%s", err.context);
    balloon->kept += size - discarded;
}

/* A run of pages by their guest-physical addresses, wherever these lead. */
static void balloon_discard_run(struct virtio_balloon *balloon, uint64_t gpa, uint64_t size)
{
    while (size != 0) {
        uint64_t length;
        void *host = memory_piece(balloon->virtio.device.vm, gpa, size, &length);

        if (host != NULL) {
            balloon_discard(balloon, host, length);
        } else {
            length = BALLOON_PAGE;
            balloon->kept += length;
            balloon->virtio.errors++;
            virtio_log(&balloon->virtio, "the guest gives up memory at 0x%" PRIx64
                       ", where it has none", gpa);
        }
        gpa += length;
        size -= length;
    }
}

void balloon_inflate(struct virtio_balloon *balloon, struct virtqueue *queue,
                     const struct virtqueue_chain *chain)
{
    uint32_t pfns[PFNS_CHUNK];
    uint64_t gpa = 0, size = 0; /* the run so far */
    uint64_t offset = 0;
    uint64_t count;

    while (offset < PFNS_MAX * sizeof(pfns[0]) &&
           (count = virtqueue_read(chain, offset, pfns, sizeof(pfns)) / sizeof(pfns[0])) != 0) {
        for (uint64_t i = 0; i < count; i++) {
            uint64_t page = (uint64_t)le32toh(pfns[i]) << BALLOON_PAGE_SHIFT;

            /* An allocator hands out neighbours upwards or downwards. */
            if (size != 0 && page + BALLOON_PAGE == gpa) {
                gpa = page;
            } else if (page != gpa + size || size == 0) {
                balloon_discard_run(balloon, gpa, size);
                gpa = page;
                size = 0;
            }
            size += BALLOON_PAGE;
        }
        offset += count * sizeof(pfns[0]);
        balloon->inflated += count * BALLOON_PAGE;
    }
    balloon_discard_run(balloon, gpa, size);
    virtqueue_push(queue, chain->head, 0);
}

void balloon_deflate(struct virtio_balloon *balloon, struct virtqueue *queue,
                     const struct virtqueue_chain *chain)
{
    balloon->deflated += chain->readable_bytes / sizeof(uint32_t) * BALLOON_PAGE;
    virtqueue_push(queue, chain->head, 0);
}

/* The segments are the free pages themselves (5.5.6.5). */
void balloon_report(struct virtio_balloon *balloon, struct virtqueue *queue,
                    const struct virtqueue_chain *chain)
{
    for (uint32_t i = 0; i < chain->writable; i++) {
        const struct iovec *pages = &chain->iov[chain->readable + i];

        balloon_discard(balloon, pages->iov_base, pages->iov_len);
        balloon->reported += pages->iov_len;
    }
    virtqueue_push(queue, chain->head, 0);
}
