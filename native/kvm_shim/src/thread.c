/* SPDX-License-Identifier: Apache-2.0 */
#include "thread.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

struct thread_birth {
    struct thread_start start;
    sem_t done;
    int rc;
};

int thread_confine(const struct sock_fprog *filter)
{
    if (filter == NULL)
        return 0;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, filter) < 0 ? -errno : 0;
}

static void *thread_main(void *argument)
{
    struct thread_birth *birth = argument;
    const struct thread_start start = birth->start;
    char name[16];
    int rc;

    snprintf(name, sizeof(name), "%s", start.name);
    pthread_setname_np(pthread_self(), name);
    rc = birth->rc = thread_confine(start.filter);
    sem_post(&birth->done); /* the creator goes on, and *birth is no more */
    return rc < 0 ? NULL : start.run(start.argument);
}

int thread_create(pthread_t *thread, const struct thread_start *start)
{
    struct thread_birth birth = {.start = *start};
    pthread_attr_t attributes;
    sigset_t all, before;
    int rc;

    rc = pthread_attr_init(&attributes);
    if (rc != 0)
        return -rc;
    if (start->stack != 0)
        pthread_attr_setstacksize(&attributes, start->stack);
    sem_init(&birth.done, 0, 0);
    /* A new thread has the signal mask of its creator. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = -pthread_create(thread, &attributes, thread_main, &birth);
    if (rc == 0) {
        while (sem_wait(&birth.done) < 0)
            ; /* a signal that no mask blocks: a debugger's */
        rc = birth.rc;
        if (rc < 0)
            pthread_join(*thread, NULL);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sem_destroy(&birth.done);
    pthread_attr_destroy(&attributes);
    return rc;
}
