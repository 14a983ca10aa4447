/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port as a device: its life and its saved state. */
#include "serial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { SERIAL_GSIS = 24 }; /* pins of the IOAPIC */

struct serial_state {
    uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
    uint8_t modem_delta, overrun, thre_pending;
    uint8_t rx_count;
    struct serial_rx rx[SERIAL_FIFO_SIZE]; /* oldest first */
    struct ring_state tx;
} __attribute__((packed));

/* ---- saved state ---------------------------------------------------------- */

static void serial_save(kvmshim_device *device, void *state)
{
    struct serial *serial = (struct serial *)device;
    struct serial_state *saved = state;

    memset(saved, 0, sizeof(*saved));
    pthread_mutex_lock(&serial->line.lock);
    saved->ier = serial->ier;
    saved->fcr = serial->fcr;
    saved->lcr = serial->lcr;
    saved->mcr = serial->mcr;
    saved->scr = serial->scr;
    saved->dll = serial->dll;
    saved->dlm = serial->dlm;
    saved->modem_delta = serial->modem_delta;
    saved->overrun = serial->overrun;
    saved->thre_pending = serial->thre_pending;
    saved->rx_count = (uint8_t)serial->rx_count;
    for (uint32_t i = 0; i < serial->rx_count; i++)
        saved->rx[i] = serial->rx[(serial->rx_head + i) % SERIAL_FIFO_SIZE];
    ring_save(&serial->line.ring, &saved->tx);
    pthread_mutex_unlock(&serial->line.lock);
}

static int serial_check(const struct serial_state *saved, kvmshim_error *err)
{
    uint32_t capacity = saved->fcr & UART_FCR_ENABLE_FIFO ? SERIAL_FIFO_SIZE : 1;

    if ((saved->ier & ~SERIAL_IER_BITS) || (saved->mcr & ~SERIAL_MCR_BITS) ||
        (saved->fcr & ~SERIAL_FCR_BITS) ||
        (saved->fcr && !(saved->fcr & UART_FCR_ENABLE_FIFO)))
        return error_set(err, -EINVAL, "serial state: IER 0x%02x MCR 0x%02x FCR 0x%02x",
                         saved->ier, saved->mcr, saved->fcr);
    if ((saved->modem_delta & ~UART_MSR_ANY_DELTA) || saved->overrun > 1 || saved->thre_pending > 1)
        return error_set(err, -EINVAL, "serial state: MSR 0x%02x OE %u THRE %u",
                         saved->modem_delta, saved->overrun, saved->thre_pending);
    if (saved->rx_count > capacity || !ring_valid(&saved->tx))
        return error_set(err, -EINVAL, "serial state: %u bytes received, %u to send",
                         saved->rx_count, saved->tx.count);
    for (uint32_t i = 0; i < saved->rx_count; i++)
        if (saved->rx[i].errors & ~UART_LSR_BI)
            return error_set(err, -EINVAL, "serial state: received byte %u has status 0x%02x", i,
                             saved->rx[i].errors);
    return 0;
}

static int serial_load(kvmshim_device *device, const void *state, kvmshim_error *err)
{
    struct serial *serial = (struct serial *)device;
    const struct serial_state *saved = state;
    int rc = serial_check(saved, err);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&serial->line.lock);
    serial->ier = saved->ier;
    serial->fcr = saved->fcr;
    serial->lcr = saved->lcr;
    serial->mcr = saved->mcr;
    serial->scr = saved->scr;
    serial->dll = saved->dll;
    serial->dlm = saved->dlm;
    serial->modem_delta = saved->modem_delta;
    serial->overrun = saved->overrun;
    serial->thre_pending = saved->thre_pending;
    serial->rx_head = 0;
    serial->rx_count = saved->rx_count;
    memcpy(serial->rx, saved->rx, sizeof(serial->rx));
    line_load(&serial->line, &saved->tx);
    serial_refresh(serial);
    pthread_mutex_unlock(&serial->line.lock);
    line_kick(&serial->line);
    return 0;
}

/* ---- life ----------------------------------------------------------------- */

static int serial_pause(kvmshim_device *device, uint64_t deadline_ns)
{
    return line_hold(&((struct serial *)device)->line, deadline_ns);
}

static void serial_resume(kvmshim_device *device)
{
    line_release(&((struct serial *)device)->line);
}

static void serial_counters(kvmshim_device *device, struct counters *counters)
{
    struct serial *serial = (struct serial *)device;

    line_counters(&serial->line, counters);
    pthread_mutex_lock(&serial->line.lock);
    counters_add(counters, serial->overruns, "overruns");
    pthread_mutex_unlock(&serial->line.lock);
}

static void serial_destroy(kvmshim_device *device)
{
    struct serial *serial = (struct serial *)device;

    bus_remove(device->vm, KVMSHIM_SPACE_PIO, serial->port, NULL);
    serial_io_stop(serial);
    free(serial);
}

static const struct device_ops serial_ops = {
    .name = "serial",
    .version = 1,
    .state_size = sizeof(struct serial_state),
    .save = serial_save,
    .load = serial_load,
    .destroy = serial_destroy,
    .pause = serial_pause,
    .resume = serial_resume,
    .counters = serial_counters,
};

int kvmshim_serial_create(kvmshim_vm *vm, uint16_t port, uint32_t gsi, kvmshim_device **device,
                          kvmshim_error *err)
{
    struct serial *serial;
    int rc;

    if (gsi >= SERIAL_GSIS)
        return error_set(err, -EINVAL, "serial: interrupt %u is no IOAPIC pin", gsi);
    serial = calloc(1, sizeof(*serial));
    if (!serial)
        return error_set(err, -ENOMEM, "serial: allocate");
    serial->device.vm = vm;
    serial->port = port;
    serial->gsi = gsi;
    serial->mcr = UART_MCR_OUT2; /* as firmware leaves it */
    serial->thre = true;

    rc = serial_io_start(serial, err);
    if (rc < 0)
        goto free_serial;
    rc = bus_add(vm, KVMSHIM_SPACE_PIO, port, SERIAL_PORTS, &serial_bus_ops, serial, err);
    if (rc < 0)
        goto stop_io;
    device_register(vm, &serial->device, &serial_ops);
    if (device)
        *device = &serial->device;
    return 0;

stop_io:
    serial_io_stop(serial);
free_serial:
    free(serial);
    return rc;
}

/* The device as a serial port, or NULL with *err set. */
static struct serial *serial_of(kvmshim_device *device, const char *what, kvmshim_error *err)
{
    if (device->ops == &serial_ops)
        return (struct serial *)device;
    error_set(err, -EINVAL, "serial %s: the device is a %s", what, device->ops->name);
    return NULL;
}

int kvmshim_serial_attach(kvmshim_device *device, int input, int output, kvmshim_error *err)
{
    struct serial *serial = serial_of(device, "attach", err);

    return serial ? line_attach(&serial->line, input, output, err) : -EINVAL;
}

int kvmshim_serial_detach(kvmshim_device *device, kvmshim_error *err)
{
    struct serial *serial = serial_of(device, "detach", err);

    return serial ? line_attach(&serial->line, -1, -1, err) : -EINVAL;
}
