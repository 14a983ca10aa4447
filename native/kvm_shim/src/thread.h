/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a thread of ours in a process whose signals are not ours. */
#ifndef KVM_SHIM_THREAD_H
#define KVM_SHIM_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* Start a thread with every signal blocked. 0 or a negative errno. */
int thread_create(pthread_t *thread, size_t stack, void *(*run)(void *), void *argument);

#endif
