/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port's end of its line.
 *
 * A guest writes its console byte by byte. The first byte that finds the ring empty arms a
 * timer of one millisecond; when it fires all that has come together goes out by one write().
 * So a vCPU pays one system call for a burst, and a reader is late by a millisecond at most.
 */
#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"
#include "serial.h"

enum { BURST_NS = 1000000 };

static struct serial *serial_of_line(struct line *line)
{
    return (struct serial *)((char *)line - offsetof(struct serial, line));
}

void serial_io_arm(struct serial *serial)
{
    const struct itimerspec burst = {.it_value.tv_nsec = BURST_NS};

    timerfd_settime(serial->burst, 0, &burst, NULL);
}

static bool serial_takes_input(struct line *line)
{
    return serial_rx_room(serial_of_line(line)) > 0;
}

static ssize_t serial_fill(struct line *line)
{
    struct serial *serial = serial_of_line(line);
    uint8_t data[SERIAL_FIFO_SIZE];
    ssize_t count = 1;
    uint32_t room;

    while (count > 0 && (room = serial_rx_room(serial)) > 0) {
        count = line_read(line, data, room);
        for (ssize_t i = 0; i < count; i++)
            serial_receive(serial, data[i]);
    }
    serial_update(serial);
    return count;
}

static void serial_changed(struct line *line)
{
    serial_update(serial_of_line(line));
}

static const struct line_ops serial_line_ops = {
    .takes_input = serial_takes_input,
    .fill = serial_fill,
    .changed = serial_changed,
};

static void serial_burst_over(void *opaque, uint32_t events)
{
    struct serial *serial = opaque;
    uint64_t drained;

    (void)events;
    (void)!read(serial->burst, &drained, sizeof(drained));
    line_flush(&serial->line);
    line_settle(&serial->line);
}

int serial_io_start(struct serial *serial, kvmshim_error *err)
{
    int rc;

    serial->burst = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (serial->burst < 0)
        return error_set(err, -errno, "serial: create timerfd");
    rc = line_start(&serial->line, &serial_line_ops, serial->device.vm, "serial", "serial-io", err);
    if (rc < 0)
        goto close_burst;
    rc = io_thread_watch(&serial->line.thread, &serial->burst_watch, serial->burst, EPOLLIN,
                         serial_burst_over, serial, err);
    if (rc < 0)
        goto stop_line;
    line_release(&serial->line);
    return 0;

stop_line:
    line_stop(&serial->line);
close_burst:
    close(serial->burst);
    return rc;
}

void serial_io_stop(struct serial *serial)
{
    line_stop(&serial->line);
    close(serial->burst);
}
