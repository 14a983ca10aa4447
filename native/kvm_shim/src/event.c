/* SPDX-License-Identifier: Apache-2.0 */
#include "event.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "device.h"
#include "error.h"
#include "vcpu.h"
#include "vm.h"

#define NO_VCPU UINT32_MAX
#define GUEST_KINDS (KVMSHIM_EVENT_DEVICE_RESET - KVMSHIM_EVENT_PANICKED + 1)

int event_init(struct events *queue, kvmshim_error *err)
{
    int ret = pthread_mutex_init(&queue->lock, NULL);

    if (ret != 0)
        return error_set(err, -ret, "event queue lock");
    queue->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->fd < 0) {
        ret = error_set(err, -errno, "event queue eventfd");
        pthread_mutex_destroy(&queue->lock);
        return ret;
    }
    return 0;
}

void event_free(struct events *queue)
{
    close(queue->fd);
    pthread_mutex_destroy(&queue->lock);
}

uint64_t machine_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool halts(uint32_t kind)
{
    return kind <= KVMSHIM_EVENT_GUEST_PANIC;
}

/* The guest can have as many of these as it likes: half of the places is for other kinds. */
static bool has_share(const struct events *queue, uint32_t kind)
{
    uint32_t count = 0;

    if (kind < KVMSHIM_EVENT_PANICKED)
        return true;
    for (uint32_t i = 0; i < queue->count; i++)
        count += queue->events[(queue->first + i) % EVENTS_MAX].kind == kind;
    return count < EVENTS_MAX / 2 / GUEST_KINDS;
}

void event_queue(kvmshim_vm *vm, const kvmshim_event *event)
{
    struct events *queue = &vm->events;
    uint32_t room = halts(event->kind) ? EVENTS_MAX : EVENTS_MAX - 1;

    pthread_mutex_lock(&queue->lock);
    if (queue->count < room && has_share(queue, event->kind)) {
        queue->events[(queue->first + queue->count) % EVENTS_MAX] = *event;
        queue->count++;
        eventfd_write(queue->fd, 1);
    }
    pthread_mutex_unlock(&queue->lock);
}

void event_post(kvmshim_vm *vm, kvmshim_event *event)
{
    const struct vcpu *vcpu = vcpu_current(vm);

    event->time_ns = machine_now_ns();
    event->vcpu = vcpu == NULL ? NO_VCPU : vcpu->index;
    if (halts(event->kind))
        control_halt(vm, event);
    else
        event_queue(vm, event);
}

void machine_event(kvmshim_vm *vm, uint32_t kind, const char *source)
{
    kvmshim_event event = {.kind = kind};

    strncpy(event.source, source, sizeof(event.source) - 1);
    event_post(vm, &event);
}

int kvmshim_vm_event_fd(kvmshim_vm *vm)
{
    return vm->events.fd;
}

int kvmshim_vm_event_next(kvmshim_vm *vm, kvmshim_event *event)
{
    struct events *queue = &vm->events;
    int found = 0;
    eventfd_t drained;

    pthread_mutex_lock(&queue->lock);
    if (queue->count > 0) {
        *event = queue->events[queue->first];
        queue->first = (queue->first + 1) % EVENTS_MAX;
        queue->count--;
        found = 1;
    }
    if (queue->count == 0)
        eventfd_read(queue->fd, &drained);
    pthread_mutex_unlock(&queue->lock);
    return found;
}
