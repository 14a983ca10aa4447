/* SPDX-License-Identifier: Apache-2.0 */
/* The watchdog, and on the same bus the panic device, whose BAR the input may move into its way. */
#include "virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kvmshim_vm vm = {0};
    kvmshim_device *watchdog, *pvpanic;
    kvmshim_place place;
    kvmshim_counter entries[16];
    struct counters counters = {.entries = entries, .capacity = 16};

    fuzz_virtio_begin(&vm);
    place = fuzz_place(&vm, 1);
    FUZZ_CHECK(kvmshim_watchdog_create(&vm, &place, 1, &watchdog, NULL) == 0);
    place = fuzz_place(&vm, 2);
    FUZZ_CHECK(kvmshim_pvpanic_create(&vm, &place, &pvpanic, NULL) == 0);
    /* Half of the inputs begin where a driver has done its work. */
    if (size && data[0] & 1)
        fuzz_virtio_ready(&vm, watchdog, UINT64_MAX);
    if (size)
        fuzz_virtio_play(&vm, watchdog, data + 1, size - 1, NULL, NULL);
    watchdog->ops->counters(watchdog, &counters);
    pvpanic->ops->counters(pvpanic, &counters);
    FUZZ_CHECK(counters.count <= counters.capacity);
    fuzz_end(&vm);
    return 0;
}
