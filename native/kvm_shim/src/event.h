/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of rare events from the vCPU and device threads to the control plane. */
#ifndef KVM_SHIM_EVENT_H
#define KVM_SHIM_EVENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvm_shim.h"

#define EVENTS_MAX 256

struct events {
    pthread_mutex_t lock;
    int fd;
    uint32_t first, count;
    kvmshim_event events[EVENTS_MAX];
};

int event_init(struct events *queue, kvmshim_error *err);
void event_free(struct events *queue);

/* Append to the queue. It has a place for the one event that halts the VM, come what may. */
void event_queue(kvmshim_vm *vm, const kvmshim_event *event);

/* machine_event() for a caller that knows more: time and vCPU are filled in here. */
void event_post(kvmshim_vm *vm, kvmshim_event *event);

#endif
