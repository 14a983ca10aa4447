/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a thread of ours in a process whose signals are not ours. */
#ifndef KVM_SHIM_THREAD_H
#define KVM_SHIM_THREAD_H

#include <linux/filter.h>
#include <pthread.h>
#include <stddef.h>

struct thread_start {
    const char *name; /* what ps shows: its first 15 characters */
    size_t stack;
    const struct sock_fprog *filter; /* of the system calls it may make; NULL: as its creator's */
    void *(*run)(void *argument);
    void *argument;
};

/* Start a thread with every signal blocked. When this returns 0 it has its name and its
 * filter; otherwise a negative errno, and there is none. */
int thread_create(pthread_t *thread, const struct thread_start *start);

/* Have the calling thread take a filter, in addition to those it has; NULL: none. 0 or a
 * negative errno. */
int thread_confine(const struct sock_fprog *filter);

#endif
