/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>

#include "blob.h"
#include "control.h"
#include "device_list.h"
#include "error.h"
#include "vm.h"

void device_register(kvmshim_vm *vm, kvmshim_device *device, const struct device_ops *ops)
{
    device->ops = ops;
    device->vm = vm;
    device->next = vm->devices;
    vm->devices = device;
}

/* Resume the devices from the newest up to `end`, which is left out. */
static void resume_until(kvmshim_vm *vm, const kvmshim_device *end)
{
    for (kvmshim_device *device = vm->devices; device != end; device = device->next) {
        if (device->ops->resume != NULL)
            device->ops->resume(device);
    }
}

int device_pause_all(kvmshim_vm *vm, uint64_t deadline_ns, kvmshim_error *err)
{
    for (kvmshim_device *device = vm->devices; device != NULL; device = device->next) {
        if (device->ops->pause != NULL && device->ops->pause(device, deadline_ns) < 0) {
            resume_until(vm, device);
            return error_set(err, -ETIMEDOUT, "%s has I/O in flight that does not end in time",
                             device->ops->name);
        }
    }
    return 0;
}

void device_resume_all(kvmshim_vm *vm)
{
    resume_until(vm, NULL);
}

void device_destroy_all(kvmshim_vm *vm)
{
    while (vm->devices != NULL) {
        kvmshim_device *device = vm->devices;

        vm->devices = device->next;
        device->ops->destroy(device);
    }
}

int kvmshim_device_save(kvmshim_device *device, void *data, uint64_t capacity, uint64_t *size,
                        kvmshim_error *err)
{
    const struct device_ops *ops = device->ops;
    void *payload;
    int ret;

    ret = control_require_stopped(device->vm, err);
    if (ret < 0)
        return ret;
    ret = blob_begin(data, capacity, ops->state_size, size, &payload, err);
    if (ret < 0 || payload == NULL)
        return ret;
    ops->save(device, payload);
    blob_finish(data, ops->name, ops->version, ops->state_size);
    return 0;
}

int kvmshim_device_load(kvmshim_device *device, const void *data, uint64_t size,
                        kvmshim_error *err)
{
    const struct device_ops *ops = device->ops;
    const void *payload;
    uint64_t length;
    int ret;

    ret = control_require_stopped(device->vm, err);
    if (ret < 0)
        return ret;
    ret = blob_open(data, size, ops->name, ops->version, &payload, &length, err);
    if (ret < 0)
        return ret;
    if (length != ops->state_size)
        return error_set(err, -EINVAL, "%s state has %" PRIu64 " bytes, not %u", ops->name, length,
                         ops->state_size);
    return ops->load(device, payload, err);
}

int kvmshim_device_counters(kvmshim_device *device, kvmshim_counter *entries, uint32_t capacity,
                            uint32_t *count, kvmshim_error *err)
{
    struct counters counters = {.entries = entries, .capacity = capacity};

    if (device->ops->counters != NULL)
        device->ops->counters(device, &counters);
    *count = counters.count;
    if (counters.count > capacity)
        return error_set(err, -E2BIG, "%s has %u counters", device->ops->name, counters.count);
    return 0;
}
