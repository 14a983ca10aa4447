/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon: pages of all kinds given up, reported and taken back, statistics, new sizes. */
#include <string.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "memory.h"
#include "virtio.h"

enum {
    TARGET_RESIZE = ACTION_TARGET, /* to data bytes */

    /* Of an input's first byte. */
    STATISTICS = 1,
    REPORTING = 2,
    DEFLATE_ON_OOM = 4,
    READY = 8, /* begin where a driver has done its work */
};

/* As the machine's: the range lies in one piece of RAM, and is lost. */
int memory_discard(kvmshim_vm *vm, void *host, uint64_t size, uint64_t *discarded,
                   kvmshim_error *err)
{
    bool found = false;

    (void)err;
    for (uint32_t i = 0; i < FUZZ_SLOTS; i++) {
        uint64_t offset = (uintptr_t)host - (uintptr_t)vm->ram[i];

        found |= offset < FUZZ_SLOT_SIZE && size <= FUZZ_SLOT_SIZE - offset;
    }
    FUZZ_CHECK(found);
    memset(host, 0, size);
    *discarded = size;
    return 0;
}

/* The seconds until statistics are due pass at once. */
int timerfd_settime(int fd, int flags, const struct itimerspec *wanted, struct itimerspec *old)
{
    struct itimerspec soon = *wanted;

    if (soon.it_value.tv_sec != 0)
        soon.it_value = soon.it_interval = (struct timespec){.tv_nsec = 1};
    return (int)syscall(SYS_timerfd_settime, fd, flags, &soon, old);
}

static void act(void *opaque, const struct fuzz_record *record)
{
    uint64_t size;

    memcpy(&size, record->data, sizeof(size));
    if (record->action == TARGET_RESIZE)
        kvmshim_balloon_resize(opaque, size, NULL);
}

static void check(kvmshim_device *balloon)
{
    kvmshim_counter entries[64];
    struct counters counters = {.entries = entries, .capacity = 64};
    uint64_t given = 0, kept = 0, actual;

    FUZZ_CHECK(kvmshim_balloon_actual(balloon, &actual, NULL) == 0);
    balloon->ops->counters(balloon, &counters);
    FUZZ_CHECK(counters.count < 64);
    for (uint32_t i = 0; i < counters.count; i++) {
        if (strcmp(entries[i].name, "inflated_bytes") == 0 ||
            strcmp(entries[i].name, "reported_bytes") == 0)
            given += entries[i].value;
        else if (strcmp(entries[i].name, "kept_bytes") == 0)
            kept = entries[i].value;
        else if (strcmp(entries[i].name, "actual_bytes") == 0)
            FUZZ_CHECK(entries[i].value == actual);
    }
    FUZZ_CHECK(kept <= given);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t options = size ? data[0] : 0;
    const kvmshim_balloon_config config = {
        .size = 0x3000,
        .statistics = options & STATISTICS,
        .free_page_reporting = options & REPORTING,
        .deflate_on_oom = options & DEFLATE_ON_OOM,
    };
    kvmshim_vm vm = {0};
    kvmshim_place place;
    kvmshim_device *balloon;

    fuzz_virtio_begin(&vm);
    place = fuzz_place(&vm, 1);
    FUZZ_CHECK(kvmshim_balloon_create(&vm, &place, &config, &balloon, NULL) == 0);
    if (options & READY)
        fuzz_virtio_ready(&vm, balloon, UINT64_MAX);
    if (size)
        fuzz_virtio_play(&vm, balloon, data + 1, size - 1, act, balloon);
    check(balloon);
    fuzz_end(&vm);
    return 0;
}
