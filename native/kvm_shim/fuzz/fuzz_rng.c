/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device, with a limiter or without, and a pipe that has something now and then. */
#include <fcntl.h>
#include <unistd.h>

#include "virtio.h"

enum { ACTION_FILL = ACTION_TARGET, /* data into the pipe */ ACTION_DRY /* its end */ };

enum { WITH_DRIVER = 1, WITH_LIMITER = 2, WITH_PIPE = 4 };

static void act(void *opaque, const struct fuzz_record *record)
{
    int *writer = opaque;

    if (*writer < 0)
        return;
    if (record->action == ACTION_FILL) {
        FUZZ_CHECK(write(*writer, record->data, sizeof(record->data)) != 0);
    } else if (record->action == ACTION_DRY) {
        close(*writer);
        *writer = -1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const kvmshim_bucket bytes = {.size = 4096, .one_time_burst = 512, .refill_ms = 1000};
    const kvmshim_bucket operations = {.size = 64, .refill_ms = 1000};
    uint8_t with = size ? data[0] : 0;
    kvmshim_device *device, *limiter = NULL;
    kvmshim_vm vm = {0};
    kvmshim_place place;
    int ends[2] = {-1, -1};

    fuzz_virtio_begin(&vm);
    place = fuzz_place(&vm, 1);
    if (with & WITH_LIMITER)
        FUZZ_CHECK(kvmshim_limiter_create(&vm, &bytes, &operations, &limiter, NULL) == 0);
    if (with & WITH_PIPE)
        FUZZ_CHECK(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    FUZZ_CHECK(kvmshim_rng_create(&vm, &place, ends[0], limiter, &device, NULL) == 0);
    if (ends[0] >= 0)
        close(ends[0]); /* the device has its own */
    if (with & WITH_DRIVER)
        fuzz_virtio_ready(&vm, device, UINT64_MAX);
    if (size)
        fuzz_virtio_play(&vm, device, data + 1, size - 1, act, &ends[1]);
    fuzz_end(&vm);
    if (ends[1] >= 0)
        close(ends[1]);
    return 0;
}
