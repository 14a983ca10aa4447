/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "races.h"

static kvmshim_device *create_rng(kvmshim_vm *vm, const kvmshim_place *place)
{
    kvmshim_device *device;

    REQUIRE(kvmshim_rng_create(vm, place, -1, NULL, &device, NULL) == 0);
    return device;
}

const struct race_device race_devices[] = {
    {
        .name = "rng",
        .create = create_rng,
        .queue_count = 1,
        .queues = {{.writable = 64, .answered = true}},
    },
    {.name = NULL},
};
