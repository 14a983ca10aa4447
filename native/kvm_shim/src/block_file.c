/* SPDX-License-Identifier: Apache-2.0 */
#include "block_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

enum {
    BLOCK_SIZE_MAX = 4096,
    PHYSICAL_SIZE_MAX = 65536,
};

/* The unit of direct I/O depends on the file system and on the disk below it, and only new
 * kernels tell it. Try what is common. */
static uint32_t direct_unit(int fd)
{
    void *buffer;
    uint32_t unit;

    if (posix_memalign(&buffer, BLOCK_SIZE_MAX, 2 * (size_t)BLOCK_SIZE_MAX) != 0)
        return BLOCK_SIZE_MAX;
    for (unit = BLOCK_SECTOR; unit < BLOCK_SIZE_MAX; unit *= 2)
        if (pread(fd, (uint8_t *)buffer + unit, unit, unit) >= 0)
            break;
    free(buffer);
    return unit;
}

static bool is_unit(uint32_t size, uint32_t max)
{
    return size >= BLOCK_SECTOR && size <= max && (size & (size - 1)) == 0;
}

static int block_device_open(struct block_file *file, kvmshim_error *err)
{
    unsigned int physical = 0, optimal = 0;
    int logical = 0;

    if (ioctl(file->fd, BLKGETSIZE64, &file->size) < 0 || ioctl(file->fd, BLKSSZGET, &logical) < 0)
        return error_set(err, -errno, "disk: ask the block device for its size");
    if (logical < (int)BLOCK_SECTOR || !is_unit((uint32_t)logical, BLOCK_SIZE_MAX))
        return error_set(err, -EINVAL, "disk: the block device has sectors of %d bytes", logical);
    file->block_size = (uint32_t)logical;
    if (ioctl(file->fd, BLKPBSZGET, &physical) == 0 && is_unit(physical, PHYSICAL_SIZE_MAX))
        file->physical_size = physical;
    if (ioctl(file->fd, BLKIOOPT, &optimal) == 0)
        file->optimal_size = optimal;
    file->punch = true; /* whether it is shows when it is tried */
    return 0;
}

static void regular_file_open(struct block_file *file, const struct stat *status)
{
    file->size = (uint64_t)status->st_size;
    file->block_size = BLOCK_SECTOR;
    if (status->st_blksize > 0 && is_unit((uint32_t)status->st_blksize, PHYSICAL_SIZE_MAX))
        file->physical_size = (uint32_t)status->st_blksize;
    /* Where nothing is to be deallocated: tells whether the file system can. */
    file->punch = fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            status->st_size, BLOCK_SIZE_MAX) == 0;
}

static int block_file_examine(struct block_file *file, bool readonly, kvmshim_error *err)
{
    int flags = fcntl(file->fd, F_GETFL);
    struct stat status;
    uint32_t unit;
    int rc;

    if (flags < 0 || fstat(file->fd, &status) < 0)
        return error_set(err, -errno, "disk: examine the file");
    if (!readonly && (flags & O_ACCMODE) != O_RDWR)
        return error_set(err, -EINVAL, "disk: the file is not open for reading and writing");
    if ((flags & O_NONBLOCK) != 0) /* io_uring would say -EAGAIN where it has to wait */
        return error_set(err, -EINVAL, "disk: the file is open with O_NONBLOCK");
    if (S_ISBLK(status.st_mode)) {
        rc = block_device_open(file, err);
        if (rc < 0)
            return rc;
    } else if (S_ISREG(status.st_mode)) {
        regular_file_open(file, &status);
    } else {
        return error_set(err, -EINVAL, "disk: neither a file nor a block device");
    }
    file->direct = (flags & O_DIRECT) != 0;
    unit = file->direct ? direct_unit(file->fd) : BLOCK_SECTOR;
    if (file->block_size < unit)
        file->block_size = unit;
    if (file->physical_size < file->block_size)
        file->physical_size = file->block_size;
    file->remainder = (uint32_t)(file->size % file->block_size);
    file->size -= file->remainder;
    if (file->size == 0)
        return error_set(err, -EINVAL, "disk: the file has no whole block of %u bytes",
                         file->block_size);
    return 0;
}

int block_file_open(struct block_file *file, int fd, bool readonly, kvmshim_error *err)
{
    int rc;

    file->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (file->fd < 0)
        return error_set(err, -errno, "disk: duplicate the file descriptor");
    rc = block_file_examine(file, readonly, err);
    if (rc < 0)
        block_file_close(file);
    return rc;
}

void block_file_close(struct block_file *file)
{
    close(file->fd);
}
