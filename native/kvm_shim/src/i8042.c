/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keyboard controller's ports, for the one thing a guest without a keyboard still does
 * there: command 0xfe pulses the CPU's reset line (Linux reboot=k, and the last resort of
 * most other systems).
 *
 * The status register always reads 0: the input buffer is empty, so a guest waiting to send
 * the reset command never waits, and no scan code is ever there, so a driver that drains the
 * output buffer ends at once. That no controller exists is for the FADT's boot flags to say.
 */
#include <errno.h>
#include <stdlib.h>

#include "bus.h"
#include "device.h"
#include "error.h"

enum {
    I8042_BASE = 0x60,
    I8042_PORTS = 5,
    I8042_DATA = 0, /* 0x60 */
    I8042_PORT_B = 1, /* 0x61: NMI status and control, no part of the 8042 proper */
    I8042_STATUS = 4, /* 0x64; commands when written */

    /* The output of PIT channel 2. Always high: a loop that waits for the speaker timer to
     * expire ends. SERR and IOCHK (bits 7 and 6), the NMI sources, stay clear. */
    PORT_B_TIMER2_OUTPUT = 0x20,
    I8042_PULSE_RESET = 0xfe
};

struct i8042 {
    kvmshim_device device;
};

/* Registers without state have nothing to save; the blob is one reserved byte. */
struct i8042_state {
    uint8_t reserved;
} __attribute__((packed));

static void i8042_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    (void)opaque;
    for (uint32_t i = 0; i < size; i++) {
        switch (offset + i) {
        case I8042_DATA:
        case I8042_STATUS:
            data[i] = 0;
            break;
        case I8042_PORT_B:
            data[i] = PORT_B_TIMER2_OUTPUT;
            break;
        default:
            break; /* 0x62 and 0x63 decode to nothing */
        }
    }
}

static void i8042_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct i8042 *i8042 = opaque;

    for (uint32_t i = 0; i < size; i++)
        if (offset + i == I8042_STATUS && data[i] == I8042_PULSE_RESET)
            machine_event(i8042->device.vm, KVMSHIM_EVENT_RESET, "i8042");
}

static const struct bus_ops i8042_bus_ops = {.read = i8042_read, .write = i8042_write};

static void i8042_save(kvmshim_device *device, void *state)
{
    struct i8042_state *saved = state;

    (void)device;
    saved->reserved = 0;
}

static int i8042_load(kvmshim_device *device, const void *state, kvmshim_error *err)
{
    const struct i8042_state *saved = state;

    (void)device;
    if (saved->reserved != 0)
        return error_set(err, -EINVAL, "i8042 state: reserved byte is 0x%02x", saved->reserved);
    return 0;
}

static void i8042_destroy(kvmshim_device *device)
{
    bus_remove(device->vm, KVMSHIM_SPACE_PIO, I8042_BASE, NULL);
    free(device);
}

static const struct device_ops i8042_ops = {
    .name = "i8042",
    .version = 1,
    .state_size = sizeof(struct i8042_state),
    .save = i8042_save,
    .load = i8042_load,
    .destroy = i8042_destroy,
};

int kvmshim_i8042_create(kvmshim_vm *vm, kvmshim_device **device, kvmshim_error *err)
{
    struct i8042 *i8042 = calloc(1, sizeof(*i8042));
    int rc;

    if (!i8042)
        return error_set(err, -ENOMEM, "i8042: allocate");
    i8042->device.vm = vm;
    rc = bus_add(vm, KVMSHIM_SPACE_PIO, I8042_BASE, I8042_PORTS, &i8042_bus_ops, i8042, err);
    if (rc < 0) {
        free(i8042);
        return rc;
    }
    device_register(vm, &i8042->device, &i8042_ops);
    if (device)
        *device = &i8042->device;
    return 0;
}
