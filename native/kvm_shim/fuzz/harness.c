/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { RECORD_SIZE = 14 };

/* The VM that machine_now_ns(), which names none, is about. */
static _Thread_local kvmshim_vm *running;

void fuzz_begin(kvmshim_vm *vm)
{
    running = vm;
    vm->now_ns = 1;
}

/* ---- what a device asks of its machine ----------------------------------- */

int bus_add(kvmshim_vm *vm, int space, uint64_t base, uint64_t size, const struct bus_ops *ops,
            void *opaque, kvmshim_error *err)
{
    if (vm->region_count == FUZZ_REGIONS)
        return error_set(err, -ENOSPC, "regions");
    FUZZ_CHECK(size != 0 && base + (size - 1) >= base);
    for (uint32_t i = 0; i < vm->region_count; i++) {
        const struct fuzz_region *other = &vm->regions[i];

        if (other->space == space && other->base - base < size)
            return error_set(err, -EEXIST, "region");
        if (other->space == space && base - other->base < other->size)
            return error_set(err, -EEXIST, "region");
    }
    vm->regions[vm->region_count++] = (struct fuzz_region){space, base, size, ops, opaque};
    return 0;
}

int bus_remove(kvmshim_vm *vm, int space, uint64_t base, kvmshim_error *err)
{
    for (uint32_t i = 0; i < vm->region_count; i++) {
        if (vm->regions[i].space == space && vm->regions[i].base == base) {
            vm->regions[i] = vm->regions[--vm->region_count];
            return 0;
        }
    }
    FUZZ_CHECK(!"removed twice");
    return error_set(err, -ENOENT, "region");
}

void device_register(kvmshim_vm *vm, kvmshim_device *device, const struct device_ops *ops)
{
    device->ops = ops;
    device->vm = vm;
    device->next = vm->devices;
    vm->devices = device;
}

void machine_irq(kvmshim_vm *vm, uint32_t gsi, int level)
{
    FUZZ_CHECK(vm && gsi < 24 && (level == 0 || level == 1));
}

void machine_event(kvmshim_vm *vm, uint32_t kind, const char *source)
{
    FUZZ_CHECK(vm && source[0]);
    FUZZ_CHECK(kind == KVMSHIM_EVENT_RESET || kind == KVMSHIM_EVENT_POWER_OFF ||
               kind == KVMSHIM_EVENT_SERIAL_HANGUP || kind == KVMSHIM_EVENT_PANICKED);
}

uint64_t machine_now_ns(void)
{
    return running->now_ns;
}

int error_set(kvmshim_error *err, int code, const char *format, ...)
{
    va_list arguments;

    FUZZ_CHECK(code < 0);
    if (err) {
        err->code = code;
        va_start(arguments, format);
        vsnprintf(err->context, sizeof(err->context), format, arguments);
        va_end(arguments);
    }
    return code;
}

/* ---- playing an input ----------------------------------------------------- */

static void fuzz_access(kvmshim_vm *vm, const struct fuzz_record *record)
{
    const struct fuzz_region *region = &vm->regions[record->region % vm->region_count];
    uint64_t offset = record->offset % region->size;
    uint32_t size = 1U << (record->action & 3);
    uint8_t data[8];

    while (offset + size > region->size)
        size /= 2;
    /* An allocation of the exact size, so that a byte too many is seen. */
    uint8_t *exact = malloc(size);

    if (record->action & 4) {
        memcpy(exact, record->data, size);
        region->ops->write(region->opaque, offset, exact, size);
    } else {
        memset(exact, 0xff, size);
        region->ops->read(region->opaque, offset, exact, size);
        memcpy(data, exact, size); /* every byte is defined */
    }
    free(exact);
}

void fuzz_bus_write(kvmshim_vm *vm, int space, uint64_t address, uint64_t value, uint32_t size)
{
    for (uint32_t i = 0; i < vm->region_count; i++) {
        const struct fuzz_region *region = &vm->regions[i];

        if (region->space == space && address - region->base < region->size) {
            region->ops->write(region->opaque, address - region->base, (const uint8_t *)&value,
                               size);
            return;
        }
    }
}

static kvmshim_device *fuzz_device(kvmshim_vm *vm, uint8_t number)
{
    kvmshim_device *device = vm->devices;
    uint32_t count = 0;

    for (kvmshim_device *each = vm->devices; each; each = each->next)
        count++;
    for (uint32_t i = number % count; i; i--)
        device = device->next;
    return device;
}

static void fuzz_state(kvmshim_vm *vm, const struct fuzz_record *record)
{
    kvmshim_device *device = fuzz_device(vm, record->region);
    uint32_t size = device->ops->state_size;
    uint8_t *before = malloc(size);
    uint8_t *loaded = malloc(size);
    uint8_t *after = malloc(size);
    kvmshim_error err;
    int rc;

    if (device->ops->pause)
        FUZZ_CHECK(device->ops->pause(device, UINT64_MAX) == 0);
    if (vm->quiet)
        vm->quiet(device);
    device->ops->save(device, before);
    memcpy(loaded, before, size);
    if (record->action == ACTION_FORGE)
        for (uint32_t i = 0; i < sizeof(record->data); i++)
            loaded[(record->offset % size + i) % size] ^= record->data[i];
    rc = device->ops->load(device, loaded, &err);
    device->ops->save(device, after);
    if (record->action == ACTION_ROUND_TRIP)
        FUZZ_CHECK(rc == 0);
    FUZZ_CHECK(rc == 0 || (rc == -EINVAL && err.context[0]));
    /* What was not refused may still hold bytes of no meaning, which are not kept. */
    if (rc < 0 || record->action == ACTION_ROUND_TRIP)
        FUZZ_CHECK(memcmp(before, after, size) == 0);
    if (device->ops->resume)
        device->ops->resume(device);
    free(after);
    free(loaded);
    free(before);
}

void fuzz_play(kvmshim_vm *vm, const uint8_t *input, size_t size,
               void (*target)(void *opaque, const struct fuzz_record *record), void *opaque)
{
    for (; size >= RECORD_SIZE; input += RECORD_SIZE, size -= RECORD_SIZE) {
        struct fuzz_record record = {.action = input[0], .region = input[1]};
        uint64_t ns;

        memcpy(&record.offset, input + 2, sizeof(record.offset));
        memcpy(record.data, input + 6, sizeof(record.data));
        memcpy(&ns, record.data, sizeof(ns));
        if (record.action < ACTION_ROUND_TRIP)
            fuzz_access(vm, &record);
        else if (record.action == ACTION_ROUND_TRIP || record.action == ACTION_FORGE)
            fuzz_state(vm, &record);
        else if (record.action == ACTION_TIME)
            vm->now_ns += ns >> 8; /* months at most: the clock does not wrap */
        else if (target)
            target(opaque, &record);
    }
}

void fuzz_end(kvmshim_vm *vm)
{
    while (vm->devices) {
        kvmshim_device *device = vm->devices;

        vm->devices = device->next;
        device->ops->destroy(device);
    }
    FUZZ_CHECK(vm->region_count == 0);
    if (vm->ram[0])
        fuzz_machine_end(vm);
}
