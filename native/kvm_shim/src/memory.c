/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <linux/memfd.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "kvm.h"
#include "vm.h"

#define PAGE UINT64_C(4096)
#define HUGE_PAGE UINT64_C(0x200000)

/* memfd_create() has the size of a huge page at the same place as our flags have it. */
#define HUGE_SIZE_MASK (63u << MFD_HUGE_SHIFT)
_Static_assert((int)KVMSHIM_MEMORY_HUGE_SHIFT == MFD_HUGE_SHIFT, "flags are passed on");

_Static_assert(sizeof(struct kvm_userspace_memory_region) == 32, "KVM_SET_USER_MEMORY_REGION");

/* The slot that holds `gpa`, and how many bytes of it follow from there. */
static const struct memory_slot *slot_at(struct memory *memory, uint64_t gpa, uint64_t *left)
{
    uint32_t count = atomic_load_explicit(&memory->count, memory_order_acquire);

    for (uint32_t i = 0; i < count; i++) {
        const struct memory_slot *slot = &memory->slots[i];

        /* Unsigned: an address below the slot wraps to more than any size. */
        if (gpa - slot->gpa < slot->size) {
            *left = slot->size - (gpa - slot->gpa);
            return slot;
        }
    }
    return NULL;
}

void *memory_range(kvmshim_vm *vm, uint64_t gpa, uint64_t size)
{
    uint64_t left;
    const struct memory_slot *slot = slot_at(&vm->memory, gpa, &left);

    if (slot == NULL || size > left)
        return NULL;
    return slot->host + (gpa - slot->gpa);
}

void *memory_piece(kvmshim_vm *vm, uint64_t gpa, uint64_t size, uint64_t *length)
{
    uint64_t left;
    const struct memory_slot *slot = slot_at(&vm->memory, gpa, &left);

    *length = 0;
    if (slot == NULL)
        return NULL;
    *length = left < size ? left : size;
    return slot->host + (gpa - slot->gpa);
}

/* Check the whole range before a byte moves, so that a refused copy changes nothing. */
static int check_range(kvmshim_vm *vm, uint64_t gpa, uint64_t size, kvmshim_error *err)
{
    uint64_t at = gpa;
    uint64_t rest = size;

    while (rest != 0) {
        uint64_t left;

        if (at < gpa || slot_at(&vm->memory, at, &left) == NULL)
            return error_set(err, -EFAULT,
                             "guest range 0x%" PRIx64 "+0x%" PRIx64 ": no RAM at 0x%" PRIx64, gpa,
                             size, at);
        if (left > rest)
            left = rest;
        at += left;
        rest -= left;
    }
    return 0;
}

int kvmshim_memory_write(kvmshim_vm *vm, uint64_t gpa, const void *data, uint64_t size,
                         kvmshim_error *err)
{
    const uint8_t *from = data;
    int ret = check_range(vm, gpa, size, err);

    while (ret == 0 && size != 0) {
        uint64_t length;
        uint8_t *host = memory_piece(vm, gpa, size, &length);

        memcpy(host, from, length);
        from += length;
        gpa += length;
        size -= length;
    }
    return ret;
}

int kvmshim_memory_read(kvmshim_vm *vm, uint64_t gpa, void *data, uint64_t size,
                        kvmshim_error *err)
{
    uint8_t *to = data;
    int ret = check_range(vm, gpa, size, err);

    while (ret == 0 && size != 0) {
        uint64_t length;
        const uint8_t *host = memory_piece(vm, gpa, size, &length);

        memcpy(to, host, length);
        to += length;
        gpa += length;
        size -= length;
    }
    return ret;
}

int kvmshim_memory_load(kvmshim_vm *vm, uint64_t gpa, int fd, uint64_t offset, uint64_t size,
                        kvmshim_error *err)
{
    int ret;

    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return error_set(err, -EINVAL, "file range 0x%" PRIx64 "+0x%" PRIx64, offset, size);
    ret = check_range(vm, gpa, size, err);
    while (ret == 0 && size != 0) {
        uint64_t length;
        uint8_t *host = memory_piece(vm, gpa, size, &length);
        ssize_t got = pread(fd, host, length, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(err, -errno, "read guest memory from fd %d at 0x%" PRIx64, fd,
                             offset);
        if (got == 0)
            return error_set(err, -EIO, "fd %d ends at 0x%" PRIx64 ", 0x%" PRIx64 " bytes short",
                             fd, offset, size);
        gpa += (uint64_t)got;
        offset += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return ret;
}

static bool overlaps(struct memory *memory, uint64_t gpa, uint64_t size)
{
    uint32_t count = atomic_load_explicit(&memory->count, memory_order_relaxed);

    for (uint32_t i = 0; i < count; i++) {
        const struct memory_slot *slot = &memory->slots[i];

        if (gpa - slot->gpa < slot->size || slot->gpa - gpa < size)
            return true;
    }
    return false;
}

static int populate(const struct memory_slot *slot, uint64_t offset, uint64_t size,
                    kvmshim_error *err)
{
    if (madvise(slot->host + offset, size, MADV_POPULATE_WRITE) == 0)
        return 0;
    /* Linux before 5.14 has no such advice; allocating the file's pages is what it can do. */
    if (errno == EINVAL && slot->fd >= 0 &&
        fallocate(slot->fd, 0, (off_t)offset, (off_t)size) == 0)
        return 0;
    /* Whatever the kernel calls it (a full hugetlb pool is EFAULT), it means one thing. */
    return error_set(err, -ENOMEM, "prefault 0x%" PRIx64 " bytes of guest RAM at 0x%" PRIx64,
                     size, slot->gpa + offset);
}

int kvmshim_memory_prefault(kvmshim_vm *vm, uint64_t gpa, uint64_t size, kvmshim_error *err)
{
    int ret = check_range(vm, gpa, size, err);

    if (ret == 0 && (gpa | size) % PAGE != 0)
        return error_set(err, -EINVAL, "prefault 0x%" PRIx64 "+0x%" PRIx64 ": no whole pages",
                         gpa, size);
    while (ret == 0 && size != 0) {
        uint64_t length;
        const struct memory_slot *slot = slot_at(&vm->memory, gpa, &length);

        if (length > size)
            length = size;
        ret = populate(slot, gpa - slot->gpa, length, err);
        gpa += length;
        size -= length;
    }
    return ret;
}

static int memfd_open(struct memory_slot *slot, uint32_t flags, kvmshim_error *err)
{
    unsigned int memfd_flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    struct stat status;

    if (flags & KVMSHIM_MEMORY_HUGEPAGES)
        memfd_flags |= MFD_HUGETLB | (flags & HUGE_SIZE_MASK);
    slot->fd = memfd_create("guest-ram", memfd_flags);
    if (slot->fd < 0)
        return error_set(err, -errno, "memfd_create for guest RAM");
    if (flags & KVMSHIM_MEMORY_HUGEPAGES) {
        if (fstat(slot->fd, &status) < 0)
            return error_set(err, -errno, "ask for the size of a huge page");
        slot->grain = (uint64_t)status.st_blksize;
    }
    if (ftruncate(slot->fd, (off_t)slot->size) < 0)
        return error_set(err, -errno, "size guest RAM to 0x%" PRIx64, slot->size);
    /* A memfd handed to another process must not be cut short under a running guest. */
    if (fcntl(slot->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return error_set(err, -errno, "seal guest RAM");
    return 0;
}

/*
 * KVM maps a huge page of the host for the guest only where both addresses are aligned alike,
 * and mmap() promises no more than a small page: reserve some more, and cut the ends off.
 */
static int map_aligned(struct memory_slot *slot, int sharing, int fd, kvmshim_error *err)
{
    const uint64_t unit = slot->grain > HUGE_PAGE ? slot->grain : HUGE_PAGE;
    const uint64_t reserved = slot->size + unit;
    uint64_t head;
    uint8_t *start;

    start = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return error_set(err, -errno, "map 0x%" PRIx64 " bytes of guest memory", slot->size);
    head = (slot->gpa - (uintptr_t)start) % unit;
    if (mmap(start + head, slot->size, PROT_READ | PROT_WRITE,
             sharing | MAP_FIXED, fd, 0) == MAP_FAILED) {
        int ret = error_set(err, -errno, "map 0x%" PRIx64 " bytes of guest memory", slot->size);

        munmap(start, reserved);
        return ret;
    }
    if (head != 0)
        munmap(start, head);
    munmap(start + head + slot->size, unit - head);
    slot->host = start + head;
    return 0;
}

/*
 * KSM never touches guest memory: merged pages are a side channel between guests. Nobody
 * asked it to, save for a parent that turned it on for all memory of its children
 * (PR_SET_MEMORY_MERGE); a kernel without KSM answers -EINVAL. Nor does guest memory go
 * into a child or a core dump.
 */
static int keep_private(const struct memory_slot *slot, kvmshim_error *err)
{
    if ((madvise(slot->host, slot->size, MADV_UNMERGEABLE) < 0 && errno != EINVAL) ||
        madvise(slot->host, slot->size, MADV_DONTFORK) < 0 ||
        madvise(slot->host, slot->size, MADV_DONTDUMP) < 0)
        return error_set(err, -errno, "madvise guest memory");
    return 0;
}

/* Map the slot's RAM; what was made stays in *slot for slot_free(). */
static int slot_map(struct memory_slot *slot, uint32_t flags, kvmshim_error *err)
{
    int sharing = MAP_PRIVATE | MAP_ANONYMOUS;
    int reserving = 0;
    int ret;

    /* Without a reservation the host may promise more than it has, as most hosts do. */
    if (!(flags & KVMSHIM_MEMORY_RESERVE))
        reserving = MAP_NORESERVE;
    if (flags & (KVMSHIM_MEMORY_SHARED | KVMSHIM_MEMORY_HUGEPAGES)) {
        sharing = MAP_SHARED;
        ret = memfd_open(slot, flags, err);
        if (ret < 0)
            return ret;
    }
    ret = map_aligned(slot, sharing | reserving, slot->fd, err);
    if (ret == 0)
        ret = keep_private(slot, err);
    if (ret < 0)
        return ret;
    if ((flags & KVMSHIM_MEMORY_THP) && madvise(slot->host, slot->size, MADV_HUGEPAGE) < 0 &&
        errno != EINVAL) /* a kernel without them */
        return error_set(err, -errno, "madvise(MADV_HUGEPAGE) guest RAM");
    return 0;
}

static void slot_free(struct memory_slot *slot)
{
    if (slot->host != NULL)
        munmap(slot->host, slot->size);
    if (slot->fd >= 0)
        close(slot->fd);
}

/* What is wrong with the range as a new slot. */
static int check_slot(kvmshim_vm *vm, const struct memory_slot *slot, kvmshim_error *err)
{
    const uint64_t gpa = slot->gpa, size = slot->size;

    if (size == 0 || (gpa | size) % PAGE != 0 || size > INT64_MAX || gpa > UINT64_MAX - size)
        return error_set(err, -EINVAL, "guest memory 0x%" PRIx64 "+0x%" PRIx64, gpa, size);
    if (overlaps(&vm->memory, gpa, size))
        return error_set(err, -EEXIST,
                         "guest memory 0x%" PRIx64 "+0x%" PRIx64 " overlaps other memory", gpa,
                         size);
    if (atomic_load_explicit(&vm->memory.count, memory_order_relaxed) == MEMORY_SLOTS_MAX)
        return error_set(err, -ENOSPC, "more than %d memory slots", MEMORY_SLOTS_MAX);
    return 0;
}

/* Give the mapped slot to KVM and publish it. */
static int slot_add(kvmshim_vm *vm, const struct memory_slot *slot, kvmshim_error *err)
{
    uint32_t count = atomic_load_explicit(&vm->memory.count, memory_order_relaxed);
    struct kvm_userspace_memory_region region = {
        .slot = count,
        .guest_phys_addr = slot->gpa,
        .memory_size = slot->size,
        .userspace_addr = (uintptr_t)slot->host,
    };
    int ret = kvm_call(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);

    if (ret < 0)
        return error_set(err, ret, "KVM_SET_USER_MEMORY_REGION 0x%" PRIx64 "+0x%" PRIx64,
                         slot->gpa, slot->size);
    vm->memory.slots[count] = *slot;
    atomic_store_explicit(&vm->memory.count, count + 1, memory_order_release);
    return 0;
}

int kvmshim_memory_add(kvmshim_vm *vm, uint64_t gpa, uint64_t size, uint32_t flags,
                       kvmshim_error *err)
{
    const uint32_t known = KVMSHIM_MEMORY_HUGEPAGES | KVMSHIM_MEMORY_THP | KVMSHIM_MEMORY_SHARED |
                           KVMSHIM_MEMORY_RESERVE | HUGE_SIZE_MASK;
    struct memory_slot slot = {.gpa = gpa, .size = size, .fd = -1, .grain = PAGE};
    int ret = check_slot(vm, &slot, err);

    if (ret < 0)
        return ret;
    if (flags & ~known)
        return error_set(err, -EINVAL, "guest RAM flags 0x%x", flags);
    ret = slot_map(&slot, flags, err);
    if (ret == 0)
        ret = slot_add(vm, &slot, err);
    if (ret < 0)
        slot_free(&slot);
    return ret;
}

int memory_map_file(kvmshim_vm *vm, uint64_t gpa, uint64_t size, int fd, bool copy_on_write,
                    kvmshim_error *err)
{
    struct memory_slot slot = {.gpa = gpa, .size = size, .fd = -1};
    int ret = check_slot(vm, &slot, err);

    if (ret < 0)
        return ret;
    ret = map_aligned(&slot, (copy_on_write ? MAP_PRIVATE : MAP_SHARED) | MAP_NORESERVE, fd, err);
    if (ret == 0)
        ret = keep_private(&slot, err);
    if (ret == 0)
        ret = slot_add(vm, &slot, err);
    if (ret < 0)
        slot_free(&slot);
    return ret;
}

static const struct memory_slot *slot_of(struct memory *memory, const uint8_t *host)
{
    uint32_t count = atomic_load_explicit(&memory->count, memory_order_acquire);

    for (uint32_t i = 0; i < count; i++) {
        const struct memory_slot *slot = &memory->slots[i];

        if ((uintptr_t)host - (uintptr_t)slot->host < slot->size)
            return slot;
    }
    return NULL;
}

int memory_discard(kvmshim_vm *vm, void *host, uint64_t size, uint64_t *discarded,
                   kvmshim_error *err)
{
    const struct memory_slot *slot = slot_of(&vm->memory, host);
    uint64_t start, end;
    int ret;

    *discarded = 0;
    if (slot == NULL || slot->grain == 0)
        return 0;
    start = (uint64_t)((uint8_t *)host - slot->host);
    end = (start + size) / slot->grain * slot->grain;
    start = (start + slot->grain - 1) / slot->grain * slot->grain;
    if (start >= end)
        return 0;
    if (slot->fd >= 0) /* a hole is seen by every process that maps the memfd */
        ret = fallocate(slot->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start,
                        (off_t)(end - start));
    else
        ret = madvise(slot->host + start, end - start, MADV_DONTNEED);
    if (ret < 0)
        return error_set(err, -errno, "give 0x%" PRIx64 " bytes at 0x%" PRIx64 " of RAM back",
                         end - start, slot->gpa + start);
    *discarded = end - start;
    return 0;
}

void memory_free(struct memory *memory)
{
    uint32_t count = atomic_load_explicit(&memory->count, memory_order_relaxed);

    for (uint32_t i = 0; i < count; i++)
        slot_free(&memory->slots[i]);
}
