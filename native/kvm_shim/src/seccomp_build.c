/* SPDX-License-Identifier: Apache-2.0 */
/* Filters from rules, by libseccomp: once for the process, as it takes its time. */
#include <errno.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"
#include "seccomp_filter.h"

enum { TESTS_MAX = 2 };

/* Of _CONTROL are all rules: its filter holds for the threads of the other kinds as well. */
static bool is_of(const kvmshim_seccomp_rule *rule, unsigned int kind)
{
    return kind == KVMSHIM_THREAD_CONTROL || (rule->kinds & (1u << kind)) != 0;
}

static int add_rule(scmp_filter_ctx context, const kvmshim_seccomp_rule *rule)
{
    uint32_t action = rule->error == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO((uint32_t)rule->error);
    struct scmp_arg_cmp tests[TESTS_MAX];
    unsigned int count = 0;

    for (int i = 0; i < TESTS_MAX && rule->tests[i].mask != 0; i++) {
        const kvmshim_seccomp_test *test = &rule->tests[i];

        tests[count++] = (struct scmp_arg_cmp){
            .arg = test->argument,
            .op = SCMP_CMP_MASKED_EQ,
            .datum_a = test->mask,
            .datum_b = test->own_pid ? (scmp_datum_t)getpid() : test->value,
        };
    }
    return seccomp_rule_add_array(context, action, rule->number, count, tests);
}

static int add_rules(scmp_filter_ctx context, unsigned int kind, kvmshim_error *err)
{
    const kvmshim_seccomp_rule *rule;
    int rc;

    for (uint32_t i = 0; (rule = kvmshim_seccomp_rule_at(i)) != NULL; i++) {
        if (!is_of(rule, kind))
            continue;
        rc = add_rule(context, rule);
        if (rc < 0)
            return error_set(err, rc, "seccomp: rule %u, %s", i, rule->call);
    }
    return 0;
}

/* libseccomp can write a filter to a file only. */
static int export(scmp_filter_ctx context, struct sock_fprog *program, kvmshim_error *err)
{
    int fd = memfd_create("seccomp", MFD_CLOEXEC);
    off_t size;
    int rc;

    if (fd < 0)
        return error_set(err, -errno, "seccomp: memfd_create");
    rc = seccomp_export_bpf(context, fd);
    size = lseek(fd, 0, SEEK_CUR);
    if (rc < 0 || size <= 0) {
        rc = error_set(err, rc < 0 ? rc : -EIO, "seccomp: export a filter");
        goto out;
    }
    program->filter = malloc((size_t)size);
    if (program->filter == NULL)
        rc = error_set(err, -ENOMEM, "seccomp: allocate a filter");
    else if (pread(fd, program->filter, (size_t)size, 0) != size)
        rc = error_set(err, -EIO, "seccomp: read a filter back");
    program->len = (unsigned short)((size_t)size / sizeof(*program->filter));
out:
    close(fd);
    return rc;
}

static int build(unsigned int kind, uint32_t otherwise, struct sock_fprog *program,
                 kvmshim_error *err)
{
    scmp_filter_ctx context = seccomp_init(otherwise);
    int rc;

    if (context == NULL)
        return error_set(err, -ENOMEM, "seccomp: allocate");
    /* Calls by the numbers of another architecture are no better than unknown ones. */
    rc = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, otherwise);
    if (rc == 0) /* a binary tree: a long list would cost the last calls in it */
        rc = seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc < 0)
        error_set(err, rc, "seccomp: set up a filter");
    else
        rc = add_rules(context, kind, err);
    if (rc == 0)
        rc = export(context, program, err);
    seccomp_release(context);
    return rc;
}

int kvmshim_seccomp_create(int mode, kvmshim_seccomp **filters, kvmshim_error *err)
{
    uint32_t otherwise = mode == KVMSHIM_SECCOMP_LOG ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS;
    kvmshim_seccomp *made;

    if (mode != KVMSHIM_SECCOMP_KILL && mode != KVMSHIM_SECCOMP_LOG)
        return error_set(err, -EINVAL, "seccomp: mode %d", mode);
    made = calloc(1, sizeof(*made));
    if (made == NULL)
        return error_set(err, -ENOMEM, "seccomp: allocate");
    for (unsigned int kind = 0; kind < KVMSHIM_THREAD_KINDS; kind++) {
        int rc = build(kind, otherwise, &made->programs[kind], err);

        if (rc < 0) {
            kvmshim_seccomp_destroy(made);
            return rc;
        }
    }
    *filters = made;
    return 0;
}

void kvmshim_seccomp_destroy(kvmshim_seccomp *filters)
{
    if (filters == NULL)
        return;
    for (unsigned int kind = 0; kind < KVMSHIM_THREAD_KINDS; kind++)
        free(filters->programs[kind].filter);
    free(filters);
}
