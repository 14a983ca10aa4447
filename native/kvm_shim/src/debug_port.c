/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port 0x80, where firmware and kernels have always written progress codes: the time of the
 * first 64 writes is kept as a record of how the boot went. Reads give all ones, as an empty
 * bus does.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bus.h"
#include "device.h"
#include "error.h"

enum { DEBUG_PORTS = 1, DEBUG_STAMPS = 64 };

struct debug_port {
    kvmshim_device device;
    uint16_t port;
    pthread_mutex_t lock;
    uint32_t count;
    kvmshim_boot_stamp stamps[DEBUG_STAMPS];
};

struct debug_port_state {
    uint32_t count;
    struct {
        uint64_t time_ns;
        uint8_t code;
    } __attribute__((packed)) stamps[DEBUG_STAMPS];
} __attribute__((packed));

static void debug_port_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    (void)opaque;
    (void)offset;
    (void)data;
    (void)size;
}

static void debug_port_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct debug_port *port = opaque;

    (void)offset;
    (void)size;
    pthread_mutex_lock(&port->lock);
    if (port->count < DEBUG_STAMPS)
        port->stamps[port->count++] = (kvmshim_boot_stamp){
            .time_ns = machine_now_ns(),
            .code = data[0],
        };
    pthread_mutex_unlock(&port->lock);
}

static const struct bus_ops debug_port_bus_ops = {
    .read = debug_port_read,
    .write = debug_port_write,
};

static void debug_port_save(kvmshim_device *device, void *state)
{
    struct debug_port *port = (struct debug_port *)device;
    struct debug_port_state *saved = state;

    memset(saved, 0, sizeof(*saved));
    pthread_mutex_lock(&port->lock);
    saved->count = port->count;
    for (uint32_t i = 0; i < port->count; i++) {
        saved->stamps[i].time_ns = port->stamps[i].time_ns;
        saved->stamps[i].code = (uint8_t)port->stamps[i].code;
    }
    pthread_mutex_unlock(&port->lock);
}

static int debug_port_load(kvmshim_device *device, const void *state, kvmshim_error *err)
{
    struct debug_port *port = (struct debug_port *)device;
    const struct debug_port_state *saved = state;

    if (saved->count > DEBUG_STAMPS)
        return error_set(err, -EINVAL, "debug_port state: %u stamps", saved->count);
    /* The times need not rise: a later machine's CLOCK_MONOTONIC may be the lower one. */
    pthread_mutex_lock(&port->lock);
    port->count = saved->count;
    for (uint32_t i = 0; i < saved->count; i++)
        port->stamps[i] = (kvmshim_boot_stamp){
            .time_ns = saved->stamps[i].time_ns,
            .code = saved->stamps[i].code,
        };
    pthread_mutex_unlock(&port->lock);
    return 0;
}

static void debug_port_destroy(kvmshim_device *device)
{
    struct debug_port *port = (struct debug_port *)device;

    bus_remove(device->vm, KVMSHIM_SPACE_PIO, port->port, NULL);
    pthread_mutex_destroy(&port->lock);
    free(port);
}

static const struct device_ops debug_port_ops = {
    .name = "debug_port",
    .version = 1,
    .state_size = sizeof(struct debug_port_state),
    .save = debug_port_save,
    .load = debug_port_load,
    .destroy = debug_port_destroy,
};

int kvmshim_debug_port_create(kvmshim_vm *vm, uint16_t port_number, kvmshim_device **device,
                              kvmshim_error *err)
{
    struct debug_port *port = calloc(1, sizeof(*port));
    int rc;

    if (!port)
        return error_set(err, -ENOMEM, "debug_port: allocate");
    port->device.vm = vm;
    port->port = port_number;
    pthread_mutex_init(&port->lock, NULL);

    rc = bus_add(vm, KVMSHIM_SPACE_PIO, port_number, DEBUG_PORTS, &debug_port_bus_ops, port, err);
    if (rc < 0) {
        pthread_mutex_destroy(&port->lock);
        free(port);
        return rc;
    }
    device_register(vm, &port->device, &debug_port_ops);
    if (device)
        *device = &port->device;
    return 0;
}

int kvmshim_debug_port_stamps(kvmshim_device *device, kvmshim_boot_stamp *stamps,
                              uint32_t capacity, uint32_t *count, kvmshim_error *err)
{
    struct debug_port *port = (struct debug_port *)device;
    int rc = 0;

    if (device->ops != &debug_port_ops)
        return error_set(err, -EINVAL, "debug_port stamps: the device is a %s",
                         device->ops->name);
    pthread_mutex_lock(&port->lock);
    *count = port->count;
    if (port->count > capacity)
        rc = error_set(err, -E2BIG, "debug_port stamps: %u, room for %u", port->count, capacity);
    else
        memcpy(stamps, port->stamps, port->count * sizeof(*stamps));
    pthread_mutex_unlock(&port->lock);
    return rc;
}
