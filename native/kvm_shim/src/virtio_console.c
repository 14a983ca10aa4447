/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A console of one port (virtio 1.2, 5.3), on a line to the host (line.h).
 *
 * The guest's output is copied into the line's ring as far as that has room. A buffer that did
 * not fit as a whole goes back to the available ring with a note of how far it got, so the
 * guest waits for its peer, and a pause in the middle of a buffer loses and repeats nothing.
 * Input is read from the host only when the guest has a buffer for it, and a buffer is taken
 * only when there is input.
 */
#include <errno.h>
#include <linux/virtio_console.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "error.h"
#include "line.h"
#include "virtio_device.h"

enum {
    QUEUE_RECEIVE,
    QUEUE_TRANSMIT,
    QUEUES,
    QUEUE_SIZE = 256,
    CHUNK_SIZE = 4096, /* copied at a time */
};

struct console {
    struct virtio_device virtio;
    struct line line; /* its lock guards what follows */
    struct io_watch receive_watch, transmit_watch;
    bool running;
    bool receive_empty;      /* the guest has no buffer for input */
    uint64_t transmit_offset; /* bytes of the next transmit buffer that are in the ring already */
    struct iovec iov[QUEUE_SIZE];
};

struct console_state {
    uint64_t transmit_offset;
    struct ring_state ring;
} __attribute__((packed));

static struct console *console_of_line(struct line *line)
{
    return (struct console *)((char *)line - offsetof(struct console, line));
}

static struct virtqueue_chain console_chain(struct console *console)
{
    return (struct virtqueue_chain){.iov = console->iov, .capacity = QUEUE_SIZE};
}

/* As virtqueue_pop(), with the guest's kicks enabled only while there is nothing. */
static bool console_pop(struct virtqueue *queue, struct virtqueue_chain *chain)
{
    while (!virtqueue_pop(queue, chain)) {
        if (!virtqueue_enable_kicks(queue))
            return false;
        virtqueue_disable_kicks(queue);
    }
    return true;
}

/* ---- output ------------------------------------------------------------------- */

/* Copy the buffer, from where it was left, into the ring; false when that is full before. */
static bool console_copy(struct console *console, const struct virtqueue_chain *chain)
{
    struct line *line = &console->line;
    uint64_t offset = console->transmit_offset;
    uint8_t chunk[CHUNK_SIZE];

    /* Without a peer only the end would stay, of a buffer that may be as large as RAM. */
    if (!line->taker && chain->readable_bytes > RING_SIZE &&
        offset < chain->readable_bytes - RING_SIZE) {
        line->dropped += chain->readable_bytes - RING_SIZE - offset;
        offset = chain->readable_bytes - RING_SIZE;
    }
    console->transmit_offset = offset;
    while (console->transmit_offset < chain->readable_bytes) {
        uint32_t size = line_room(line) < sizeof(chunk) ? line_room(line) : sizeof(chunk);

        if (size == 0)
            return false;
        size = (uint32_t)virtqueue_read(chain, console->transmit_offset, chunk, size);
        line_put(line, chunk, size);
        console->transmit_offset += size;
    }
    console->transmit_offset = 0;
    return true;
}

/* Move output from the guest's buffers into the ring. */
static void console_pull(struct console *console)
{
    struct virtqueue *queue = &console->virtio.queues[QUEUE_TRANSMIT];
    struct virtqueue_chain chain = console_chain(console);
    uint32_t budget = queue->size;

    virtqueue_disable_kicks(queue);
    while (line_room(&console->line) > 0) {
        if (budget-- == 0) {
            virtqueue_kick(queue); /* others' turn first */
            break;
        }
        if (!console_pop(queue, &chain))
            break;
        if (!console_copy(console, &chain)) {
            virtqueue_unpop(queue, 1);
            break;
        }
        virtqueue_push(queue, chain.head, 0);
    }
    virtqueue_publish(queue);
}

static void console_changed(struct line *line)
{
    struct console *console = console_of_line(line);

    if (console->running)
        console_pull(console);
}

static void console_transmit_kicked(void *opaque, uint32_t events)
{
    struct console *console = opaque;

    (void)events;
    virtqueue_kicked(&console->virtio.queues[QUEUE_TRANSMIT]);
    pthread_mutex_lock(&console->line.lock);
    console_pull(console);
    pthread_mutex_unlock(&console->line.lock);
    line_flush(&console->line);
    line_settle(&console->line);
}

/* ---- input -------------------------------------------------------------------- */

static bool console_takes_input(struct line *line)
{
    struct console *console = console_of_line(line);

    return console->running && !console->receive_empty;
}

static ssize_t console_fill(struct line *line)
{
    struct console *console = console_of_line(line);
    struct virtqueue *queue = &console->virtio.queues[QUEUE_RECEIVE];
    struct virtqueue_chain chain = console_chain(console);
    ssize_t count = -EAGAIN;
    uint8_t chunk[CHUNK_SIZE];

    virtqueue_disable_kicks(queue);
    for (uint32_t budget = queue->size; budget > 0; budget--) {
        uint64_t room;

        if (!console_pop(queue, &chain)) {
            console->receive_empty = true;
            break;
        }
        room = chain.writable_bytes < sizeof(chunk) ? chain.writable_bytes : sizeof(chunk);
        if (room > 0) {
            count = line_read(line, chunk, room);
            if (count <= 0) {
                virtqueue_unpop(queue, 1);
                break;
            }
        }
        virtqueue_push(queue, chain.head,
                       room > 0 ? (uint32_t)virtqueue_write(&chain, 0, chunk, (uint64_t)count) : 0);
    }
    virtqueue_publish(queue);
    return count;
}

static void console_receive_kicked(void *opaque, uint32_t events)
{
    struct console *console = opaque;

    (void)events;
    virtqueue_kicked(&console->virtio.queues[QUEUE_RECEIVE]);
    pthread_mutex_lock(&console->line.lock);
    console->receive_empty = false;
    pthread_mutex_unlock(&console->line.lock);
    line_settle(&console->line);
}

/* ---- size --------------------------------------------------------------------- */

static void console_set_size(struct console *console, uint16_t columns, uint16_t rows)
{
    const uint16_t size[] = {columns, rows}; /* cols and rows of struct virtio_console_config */
    struct virtio_device *virtio = &console->virtio;
    bool same;

    pthread_mutex_lock(&virtio->config_lock);
    same = memcmp(virtio->config, size, sizeof(size)) == 0;
    pthread_mutex_unlock(&virtio->config_lock);
    if (!same)
        virtio_config_set(virtio, offsetof(struct virtio_console_config, cols), size,
                          sizeof(size));
}

static void console_resized(struct line *line, uint16_t columns, uint16_t rows)
{
    console_set_size(console_of_line(line), columns, rows);
}

static const struct line_ops console_line_ops = {
    .takes_input = console_takes_input,
    .fill = console_fill,
    .changed = console_changed,
    .resized = console_resized,
};

/* ---- life --------------------------------------------------------------------- */

static void console_set_running(struct console *console, bool running)
{
    pthread_mutex_lock(&console->line.lock);
    console->running = running;
    console->receive_empty = false;
    pthread_mutex_unlock(&console->line.lock);
}

static int console_start(struct virtio_device *device, kvmshim_error *err)
{
    struct console *console = (struct console *)device;
    struct io_thread *thread = &console->line.thread;
    struct virtqueue *queues = device->queues;
    int rc;

    rc = io_thread_watch(thread, &console->receive_watch, queues[QUEUE_RECEIVE].kick_fd, EPOLLIN,
                         console_receive_kicked, console, err);
    if (rc < 0)
        return rc;
    rc = io_thread_watch(thread, &console->transmit_watch, queues[QUEUE_TRANSMIT].kick_fd, EPOLLIN,
                         console_transmit_kicked, console, err);
    if (rc < 0) {
        io_thread_forget(thread, &console->receive_watch);
        return rc;
    }
    console_set_running(console, true);
    line_release(&console->line);
    virtqueue_kick(&queues[QUEUE_TRANSMIT]);
    return 0;
}

static int console_stop(struct virtio_device *device, uint64_t deadline_ns)
{
    struct console *console = (struct console *)device;
    int rc = line_hold(&console->line, deadline_ns);

    if (rc < 0)
        return rc;
    console_set_running(console, false);
    io_thread_forget(&console->line.thread, &console->transmit_watch);
    io_thread_forget(&console->line.thread, &console->receive_watch);
    return 0;
}

static void console_destroy(struct virtio_device *device)
{
    struct console *console = (struct console *)device;

    line_stop(&console->line);
    free(console);
}

static void console_reset(struct virtio_device *device)
{
    struct console *console = (struct console *)device;

    console->transmit_offset = 0;
}

static void console_save(struct virtio_device *device, void *state)
{
    struct console *console = (struct console *)device;
    struct console_state *saved = state;

    pthread_mutex_lock(&console->line.lock);
    saved->transmit_offset = console->transmit_offset;
    ring_save(&console->line.ring, &saved->ring);
    pthread_mutex_unlock(&console->line.lock);
}

static int console_load(struct virtio_device *device, const void *state, kvmshim_error *err)
{
    struct console *console = (struct console *)device;
    const struct console_state *saved = state;

    if (!ring_valid(&saved->ring))
        return error_set(err, -EINVAL, "%s state: %u bytes to send", device->id,
                         saved->ring.count);
    pthread_mutex_lock(&console->line.lock);
    console->transmit_offset = saved->transmit_offset;
    line_load(&console->line, &saved->ring);
    pthread_mutex_unlock(&console->line.lock);
    return 0;
}

static void console_counters(struct virtio_device *device, struct counters *counters)
{
    line_counters(&((struct console *)device)->line, counters);
}

static const struct virtio_ops console_ops = {
    .name = "virtio-console",
    .type = VIRTIO_ID_CONSOLE,
    .class_code = 0xff0000, /* of no defined class */
    .version = 1,
    .state_size = sizeof(struct console_state),
    .start = console_start,
    .stop = console_stop,
    .destroy = console_destroy,
    .reset = console_reset,
    .save = console_save,
    .load = console_load,
    .counters = console_counters,
};

int kvmshim_console_create(kvmshim_vm *vm, const kvmshim_place *place, kvmshim_device **device,
                           kvmshim_error *err)
{
    const struct virtio_console_config config = {.max_nr_ports = 1};
    const uint16_t sizes[QUEUES] = {QUEUE_SIZE, QUEUE_SIZE};
    int rc = pci_check_place(place, err);
    struct console *console;

    if (rc < 0)
        return rc;
    console = calloc(1, sizeof(*console));
    if (!console)
        return error_set(err, -ENOMEM, "%s: allocate", place->id);
    rc = line_start(&console->line, &console_line_ops, vm, place->id, "console-io", err);
    if (rc < 0)
        goto free_console;
    rc = virtio_create(&console->virtio, vm, place, &console_ops,
                       UINT64_C(1) << VIRTIO_CONSOLE_F_SIZE, &config, sizeof(config), sizes, QUEUES,
                       err);
    if (rc < 0)
        goto stop_line;
    if (device)
        *device = &console->virtio.device;
    return 0;

stop_line:
    line_stop(&console->line);
free_console:
    free(console);
    return rc;
}

static struct console *console_cast(kvmshim_device *device, kvmshim_error *err)
{
    return (struct console *)virtio_cast(device, &console_ops, err);
}

int kvmshim_console_attach(kvmshim_device *device, int input, int output, kvmshim_error *err)
{
    struct console *console = console_cast(device, err);

    return console ? line_attach(&console->line, input, output, err) : -EINVAL;
}

int kvmshim_console_detach(kvmshim_device *device, kvmshim_error *err)
{
    return kvmshim_console_attach(device, -1, -1, err);
}

int kvmshim_console_resize(kvmshim_device *device, uint16_t columns, uint16_t rows,
                           kvmshim_error *err)
{
    struct console *console = console_cast(device, err);

    if (!console)
        return -EINVAL;
    console_set_size(console, columns, rows);
    return 0;
}
