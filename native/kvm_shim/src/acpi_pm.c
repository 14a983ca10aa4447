/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed hardware that a hardware-reduced ACPI machine keeps: one byte that is at once the
 * sleep control, sleep status and reset register (the FADT points all three at it), and the
 * 32-bit power management timer (FADT flag TMR_VAL_EXT).
 *
 * The timer counts CLOCK_MONOTONIC. It keeps running while the VM is paused, as the TSC does:
 * a guest that checks one clock against the other must see them agree. Across save and load
 * it goes on from the saved count, so it never jumps and never runs backwards.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "bus.h"
#include "device.h"
#include "error.h"
#include "lanes.h"

enum {
    SLEEP_PORTS = 1,
    TIMER_PORTS = 4,

    RESET_VALUE = 0x01, /* FADT RESET_VALUE */
    /* ACPI 6.4, 4.8.3.7 sleep control register */
    SLEEP_ENABLE = 1 << 5,
    SLEEP_TYPE_SHIFT = 2,
    SLEEP_TYPE_MASK = 7,
    SLEEP_TYPE_S5 = 5, /* the value the DSDT's \_S5 package announces */
};

#define TIMER_HZ UINT64_C(3579545) /* ACPI 6.4, 4.8.2.1 */
#define SECOND_NS UINT64_C(1000000000)

struct acpi_pm {
    kvmshim_device device;
    uint16_t sleep_port;
    uint16_t timer_port;
    pthread_mutex_t lock;
    uint64_t start_ns; /* when the timer was 0; modulo 2^64, as it may lie before the host's boot */
};

struct acpi_pm_state {
    uint64_t elapsed_ns;
} __attribute__((packed));

static void acpi_pm_sleep_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    (void)opaque;
    (void)offset;
    (void)size;
    data[0] = 0; /* sleep status: WAK_STS never set, there is no sleep to wake from */
}

static void acpi_pm_sleep_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct acpi_pm *pm = opaque;
    uint8_t value = data[0];

    (void)offset;
    (void)size;
    if (value == RESET_VALUE)
        machine_event(pm->device.vm, KVMSHIM_EVENT_RESET, "acpi_pm");
    else if ((value & SLEEP_ENABLE) &&
             (value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK) == SLEEP_TYPE_S5)
        machine_event(pm->device.vm, KVMSHIM_EVENT_POWER_OFF, "acpi_pm");
}

static const struct bus_ops acpi_pm_sleep_ops = {
    .read = acpi_pm_sleep_read,
    .write = acpi_pm_sleep_write,
};

static uint64_t acpi_pm_elapsed_ns(struct acpi_pm *pm)
{
    uint64_t elapsed;

    pthread_mutex_lock(&pm->lock);
    elapsed = machine_now_ns() - pm->start_ns;
    pthread_mutex_unlock(&pm->lock);
    return elapsed;
}

static void acpi_pm_timer_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    uint64_t elapsed = acpi_pm_elapsed_ns(opaque);
    uint8_t bytes[TIMER_PORTS];

    /* Seconds and the rest apart: elapsed * TIMER_HZ would overflow after 86 minutes. */
    lanes_put32(bytes, (uint32_t)(elapsed / SECOND_NS * TIMER_HZ +
                                  elapsed % SECOND_NS * TIMER_HZ / SECOND_NS));
    for (uint32_t i = 0; i < size; i++)
        data[i] = bytes[offset + i];
}

static void acpi_pm_timer_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    (void)opaque; /* PM_TMR is read-only (ACPI 6.4, 4.8.3.3) */
    (void)offset;
    (void)data;
    (void)size;
}

static const struct bus_ops acpi_pm_timer_ops = {
    .read = acpi_pm_timer_read,
    .write = acpi_pm_timer_write,
};

static void acpi_pm_save(kvmshim_device *device, void *state)
{
    struct acpi_pm_state *saved = state;

    saved->elapsed_ns = acpi_pm_elapsed_ns((struct acpi_pm *)device);
}

static int acpi_pm_load(kvmshim_device *device, const void *state, kvmshim_error *err)
{
    struct acpi_pm *pm = (struct acpi_pm *)device;
    const struct acpi_pm_state *saved = state;

    (void)err; /* the timer may stand anywhere */
    pthread_mutex_lock(&pm->lock);
    pm->start_ns = machine_now_ns() - saved->elapsed_ns;
    pthread_mutex_unlock(&pm->lock);
    return 0;
}

static void acpi_pm_destroy(kvmshim_device *device)
{
    struct acpi_pm *pm = (struct acpi_pm *)device;

    bus_remove(device->vm, KVMSHIM_SPACE_PIO, pm->timer_port, NULL);
    bus_remove(device->vm, KVMSHIM_SPACE_PIO, pm->sleep_port, NULL);
    pthread_mutex_destroy(&pm->lock);
    free(pm);
}

static const struct device_ops acpi_pm_ops = {
    .name = "acpi_pm",
    .version = 1,
    .state_size = sizeof(struct acpi_pm_state),
    .save = acpi_pm_save,
    .load = acpi_pm_load,
    .destroy = acpi_pm_destroy,
};

int kvmshim_acpi_pm_create(kvmshim_vm *vm, uint16_t sleep_port, uint16_t timer_port,
                           kvmshim_device **device, kvmshim_error *err)
{
    struct acpi_pm *pm = calloc(1, sizeof(*pm));
    int rc;

    if (!pm)
        return error_set(err, -ENOMEM, "acpi_pm: allocate");
    pm->device.vm = vm;
    pm->sleep_port = sleep_port;
    pm->timer_port = timer_port;
    pm->start_ns = machine_now_ns();
    pthread_mutex_init(&pm->lock, NULL);

    rc = bus_add(vm, KVMSHIM_SPACE_PIO, sleep_port, SLEEP_PORTS, &acpi_pm_sleep_ops, pm, err);
    if (rc < 0)
        goto free_pm;
    rc = bus_add(vm, KVMSHIM_SPACE_PIO, timer_port, TIMER_PORTS, &acpi_pm_timer_ops, pm, err);
    if (rc < 0)
        goto remove_sleep;
    device_register(vm, &pm->device, &acpi_pm_ops);
    if (device)
        *device = &pm->device;
    return 0;

remove_sleep:
    bus_remove(vm, KVMSHIM_SPACE_PIO, sleep_port, NULL);
free_pm:
    pthread_mutex_destroy(&pm->lock);
    free(pm);
    return rc;
}
