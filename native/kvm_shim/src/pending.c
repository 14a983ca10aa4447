/* SPDX-License-Identifier: Apache-2.0 */
/* What is declared and not built yet: each device that lands takes its functions out of here. */
#include <errno.h>

#include "error.h"
#include "limiter.h"
#include "kvm_shim_virtio.h"

int kvmshim_limiter_create(kvmshim_vm *vm, const kvmshim_bucket *bandwidth, const
    kvmshim_bucket *operations, kvmshim_device **limiter, kvmshim_error *err)
{
    (void)vm;
    (void)bandwidth;
    (void)operations;
    (void)limiter;
    return error_set(err, -ENOSYS, "kvmshim_limiter_create is not built yet");
}

int kvmshim_block_create(kvmshim_vm *vm, const kvmshim_place *place, const kvmshim_block_config
    *config, kvmshim_device **device, kvmshim_error *err)
{
    (void)vm;
    (void)place;
    (void)config;
    (void)device;
    return error_set(err, -ENOSYS, "kvmshim_block_create is not built yet");
}

int kvmshim_block_engine(kvmshim_device *block, kvmshim_error *err)
{
    (void)block;
    return error_set(err, -ENOSYS, "kvmshim_block_engine is not built yet");
}

int limiter_of(kvmshim_device *device, struct limiter **limiter, kvmshim_error *err)
{
    *limiter = NULL;
    return device ? error_set(err, -ENOSYS, "limiter_of is not built yet") : 0;
}

uint64_t limiter_take(struct limiter *limiter, uint64_t bytes, uint64_t operations)
{
    (void)limiter;
    (void)bytes;
    (void)operations;
    return 0;
}

void limiter_return(struct limiter *limiter, uint64_t bytes, uint64_t operations)
{
    (void)limiter;
    (void)bytes;
    (void)operations;
}
