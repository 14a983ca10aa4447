/* SPDX-License-Identifier: Apache-2.0 */
/* The rules in one row, the filters where they are wanted. */
#include "seccomp_filter.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "error.h"
#include "seccomp_rules.h"
#include "vm.h"

/* As many as glibc makes before it reads a file of /sys, in whatever thread comes next, to find
 * out how many more would be good. Most threads here allocate next to nothing. */
enum { ARENAS = 8 };

const kvmshim_seccomp_rule *kvmshim_seccomp_rule_at(uint32_t index)
{
    if (index < seccomp_calls.count)
        return &seccomp_calls.rules[index];
    index -= (uint32_t)seccomp_calls.count;
    return index < seccomp_ioctls.count ? &seccomp_ioctls.rules[index] : NULL;
}

int kvmshim_seccomp_enter(const kvmshim_seccomp *filters, kvmshim_error *err)
{
    const struct sock_fprog *filter = &filters->programs[KVMSHIM_THREAD_CONTROL];
    long rc;

    mallopt(M_ARENA_MAX, ARENAS);
    /* Without it the kernel wants CAP_SYS_ADMIN; and a filter that a program with the set-uid
     * bit inherits would be a way to confuse that. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_set(err, -errno, "give up new privileges (PR_SET_NO_NEW_PRIVS)");
    rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, filter);
    if (rc < 0)
        return error_set(err, -errno, "confine the process (SECCOMP_SET_MODE_FILTER)");
    if (rc > 0)
        return error_set(err, -EBUSY, "thread %ld of the process has a filter of its own", rc);
    return 0;
}

int kvmshim_vm_confine(kvmshim_vm *vm, const kvmshim_seccomp *filters, kvmshim_error *err)
{
    if (vm->seccomp != NULL)
        return error_set(err, -EALREADY, "confine the VM's threads");
    vm->seccomp = filters;
    return 0;
}

const void *kvmshim_seccomp_program(const kvmshim_seccomp *filters, uint32_t kind,
                                    uint32_t *instructions)
{
    *instructions = 0;
    if (kind >= KVMSHIM_THREAD_KINDS)
        return NULL;
    *instructions = filters->programs[kind].len;
    return filters->programs[kind].filter;
}

const struct sock_fprog *seccomp_filter(const kvmshim_vm *vm, unsigned int kind)
{
    if (vm->seccomp == NULL || kind == KVMSHIM_THREAD_CONTROL)
        return NULL;
    return &vm->seccomp->programs[kind];
}
