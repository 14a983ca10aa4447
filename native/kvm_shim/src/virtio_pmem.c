/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-pmem (virtio 1.2, 5.19): a file that the guest has as memory. Its loads and stores go
 * straight to the host's page cache; what the device does is to make them durable when it is
 * asked to.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pmem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "io_thread.h"
#include "kvm_shim_seccomp.h"
#include "memory.h"
#include "virtio_device.h"

enum {
    QUEUE_SIZE = 256,
    SEGMENTS = 4, /* of a request; two do */
    BATCH = 16,   /* requests that one fdatasync() answers */

    PMEM_OK = 0, /* 5.19.6.2 */
    PMEM_ERROR = 1,
};

#define ALIGNMENT UINT64_C(0x200000)

struct pmem_config {
    uint64_t start, size;
} __attribute__((packed));

struct virtio_pmem {
    struct virtio_device virtio;
    struct io_thread thread;
    struct io_watch watch;
    int fd; /* -1: writes are discarded */

    _Atomic uint64_t flushes, flush_errors;
};

static struct virtio_pmem *pmem_of(struct virtio_device *virtio)
{
    return (struct virtio_pmem *)virtio;
}

/* ---- flushing -------------------------------------------------------------- */

static uint32_t pmem_flush(struct virtio_pmem *pmem)
{
    pmem->flushes++;
    if (pmem->fd < 0 || fdatasync(pmem->fd) == 0)
        return PMEM_OK;
    pmem->flush_errors++;
    virtio_log(&pmem->virtio, "the file cannot be flushed: %s", strerrordesc_np(errno));
    return PMEM_ERROR;
}

static bool pmem_asks_for_flush(const struct virtqueue_chain *chain)
{
    uint32_t type;

    return virtqueue_read(chain, 0, &type, sizeof(type)) == sizeof(type) &&
           le32toh(type) == VIRTIO_PMEM_REQ_TYPE_FLUSH;
}

static void pmem_kicked(void *opaque, uint32_t events)
{
    struct virtio_pmem *pmem = opaque;
    struct virtqueue *queue = &pmem->virtio.queues[0];
    struct iovec iov[BATCH][SEGMENTS];
    struct virtqueue_chain chains[BATCH];
    bool asks[BATCH];
    uint32_t count = 0;
    uint32_t flushed = PMEM_OK;
    bool flush = false;

    (void)events;
    virtqueue_kicked(queue);
    for (; count < BATCH; count++) {
        chains[count] = (struct virtqueue_chain){.iov = iov[count], .capacity = SEGMENTS};
        if (!virtqueue_pop(queue, &chains[count]))
            break;
        asks[count] = pmem_asks_for_flush(&chains[count]);
        flush |= asks[count];
    }
    /* One flush after the last request serves all: what each wants durable was written before. */
    if (flush)
        flushed = pmem_flush(pmem);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t answer = htole32(asks[i] ? flushed : PMEM_ERROR);
        uint64_t written = virtqueue_write(&chains[i], 0, &answer, sizeof(answer));

        virtqueue_push(queue, chains[i].head, (uint32_t)written);
    }
    virtqueue_publish(queue);
    if (count == BATCH)
        virtqueue_kick(queue);
}

/* ---- life ------------------------------------------------------------------ */

static int pmem_start(struct virtio_device *virtio, kvmshim_error *err)
{
    struct virtio_pmem *pmem = pmem_of(virtio);
    struct virtqueue *queue = &virtio->queues[0];
    int rc;

    rc = io_thread_watch(&pmem->thread, &pmem->watch, queue->kick_fd, EPOLLIN, pmem_kicked, pmem,
                         err);
    if (rc < 0)
        return rc;
    io_thread_release(&pmem->thread);
    virtqueue_kick(queue);
    return 0;
}

static int pmem_stop(struct virtio_device *virtio, uint64_t deadline_ns)
{
    return io_thread_hold(&pmem_of(virtio)->thread, deadline_ns);
}

static void pmem_counters(struct virtio_device *virtio, struct counters *counters)
{
    struct virtio_pmem *pmem = pmem_of(virtio);

    counters_add(counters, pmem->flushes, "flushes");
    counters_add(counters, pmem->flush_errors, "flush_errors");
}

static void pmem_free(struct virtio_pmem *pmem)
{
    io_thread_stop(&pmem->thread);
    if (pmem->fd >= 0)
        close(pmem->fd);
    free(pmem);
}

static void pmem_destroy(struct virtio_device *virtio)
{
    pmem_free(pmem_of(virtio));
}

static const struct virtio_ops pmem_ops = {
    .name = "virtio-pmem",
    .type = VIRTIO_ID_PMEM,
    .class_code = 0xff0000, /* none of PCI's classes */
    .version = 1,
    .start = pmem_start,
    .stop = pmem_stop,
    .destroy = pmem_destroy,
    .counters = pmem_counters,
};

static int pmem_check(const kvmshim_pmem_config *config, kvmshim_error *err)
{
    struct stat status;

    if (config->size == 0 || (config->gpa | config->size) % ALIGNMENT != 0)
        return error_set(err, -EINVAL, "pmem 0x%" PRIx64 "+0x%" PRIx64 " is not in 2 MiB units",
                         config->gpa, config->size);
    if (fstat(config->fd, &status) < 0)
        return error_set(err, -errno, "pmem: size of fd %d", config->fd);
    /* Beyond a file's end its mapping is a trap. A device has no size of this kind. */
    if (S_ISREG(status.st_mode) && (uint64_t)status.st_size < config->size)
        return error_set(err, -EINVAL, "pmem: the file has %jd bytes, not %" PRIu64,
                         (intmax_t)status.st_size, config->size);
    return 0;
}

int kvmshim_pmem_create(kvmshim_vm *vm, const kvmshim_place *place,
                        const kvmshim_pmem_config *config, kvmshim_device **device,
                        kvmshim_error *err)
{
    static const uint16_t queue_size = QUEUE_SIZE;
    const struct pmem_config registers = {htole64(config->gpa), htole64(config->size)};
    struct virtio_pmem *pmem;
    int rc;

    rc = pmem_check(config, err);
    if (rc < 0)
        return rc;
    pmem = calloc(1, sizeof(*pmem));
    if (pmem == NULL)
        return error_set(err, -ENOMEM, "pmem: allocate");
    pmem->fd = -1;
    if (!config->discard_writes) {
        pmem->fd = fcntl(config->fd, F_DUPFD_CLOEXEC, 0);
        if (pmem->fd < 0) {
            rc = error_set(err, -errno, "pmem: duplicate fd %d", config->fd);
            goto fail;
        }
    }
    rc = io_thread_start(&pmem->thread, vm, KVMSHIM_THREAD_PMEM, "pmem", err);
    if (rc == 0)
        rc = memory_map_file(vm, config->gpa, config->size, config->fd, config->discard_writes,
                             err);
    if (rc == 0)
        rc = virtio_create(&pmem->virtio, vm, place, &pmem_ops, 0, &registers, sizeof(registers),
                           &queue_size, 1, err);
    if (rc < 0)
        goto fail;
    if (device != NULL)
        *device = &pmem->virtio.device;
    return 0;

fail:
    pmem_free(pmem);
    return rc;
}
