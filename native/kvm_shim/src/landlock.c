/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of the file system and of TCP a thread, and those it makes from now on, may open (Linux,
 * Documentation/userspace-api/landlock.rst). What is open already stays so.
 *
 * The C library has no functions for it, and the kernel's header on the machine that builds may
 * be older than the kernel that runs, so the numbers of the interface are here.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "error.h"
#include "kvm_shim.h"

#define CREATE_RULESET_VERSION (1u << 0)
#define RULE_PATH_BENEATH 1

#define FS_EXECUTE (1ull << 0)
#define FS_WRITE_FILE (1ull << 1)
#define FS_READ_FILE (1ull << 2)
#define FS_READ_DIR (1ull << 3)
#define FS_REMOVE_DIR (1ull << 4)
#define FS_REMOVE_FILE (1ull << 5)
#define FS_MAKE_REG (1ull << 8)
#define FS_MAKE_SOCK (1ull << 9)
#define FS_TRUNCATE (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

#define NET_BIND_TCP (1ull << 0)
#define NET_CONNECT_TCP (1ull << 1)

struct ruleset_attr {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
};

struct path_beneath_attr {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

/* What each version of the interface came to know, beyond the one before. */
static const struct ruleset_attr known[] = {
    {.handled_access_fs = (1ull << 13) - 1}, /* 1: to execute, write, read, remove and make */
    {.handled_access_fs = 1ull << 13},       /* 2: to link and rename across directories */
    {.handled_access_fs = FS_TRUNCATE},      /* 3 */
    {.handled_access_net = NET_BIND_TCP | NET_CONNECT_TCP}, /* 4 */
    {.handled_access_fs = FS_IOCTL_DEV},                    /* 5 */
};

#define VERSIONS (sizeof(known) / sizeof(known[0]))
#define FIRST_WITH_NET 4u

static long create_ruleset(const struct ruleset_attr *attr, size_t size, uint32_t flags)
{
    return syscall(SYS_landlock_create_ruleset, attr, size, flags);
}

/* All that this kernel can forbid, of what is known here. */
static struct ruleset_attr all_that_can_be(uint32_t version)
{
    struct ruleset_attr all = {0};

    for (uint32_t i = 0; i < version && i < VERSIONS; i++) {
        all.handled_access_fs |= known[i].handled_access_fs;
        all.handled_access_net |= known[i].handled_access_net;
    }
    return all;
}

int kvmshim_landlock_version(kvmshim_error *err)
{
    long version = create_ruleset(NULL, 0, CREATE_RULESET_VERSION);

    if (version < 0)
        return error_set(err, -errno, "ask the kernel for its version of Landlock");
    return (int)version;
}

int kvmshim_landlock_create(kvmshim_error *err)
{
    int version = kvmshim_landlock_version(err);
    struct ruleset_attr attr;
    size_t size;
    long fd;

    if (version < 0)
        return version;
    attr = all_that_can_be((uint32_t)version);
    size = (uint32_t)version < FIRST_WITH_NET ? sizeof(attr.handled_access_fs) : sizeof(attr);
    fd = create_ruleset(&attr, size, 0); /* close-on-exec by itself */
    if (fd < 0)
        return error_set(err, -errno, "make a Landlock ruleset");
    return (int)fd;
}

static uint64_t rights_of(uint32_t access)
{
    uint64_t rights = 0;

    if (access & KVMSHIM_LANDLOCK_READ)
        rights |= FS_READ_FILE | FS_READ_DIR;
    if (access & KVMSHIM_LANDLOCK_WRITE)
        rights |= FS_WRITE_FILE | FS_TRUNCATE;
    if (access & KVMSHIM_LANDLOCK_MAKE)
        rights |= FS_MAKE_REG | FS_MAKE_SOCK | FS_REMOVE_FILE;
    if (access & KVMSHIM_LANDLOCK_CONTROL)
        rights |= FS_IOCTL_DEV;
    if (access & KVMSHIM_LANDLOCK_CLEAR)
        rights |= FS_REMOVE_DIR;
    return rights;
}

int kvmshim_landlock_allow(int ruleset, const char *path, uint32_t access, kvmshim_error *err)
{
    int version = kvmshim_landlock_version(err);
    struct path_beneath_attr rule = {.parent_fd = -1};
    struct stat status;
    int ret = 0;

    if (version < 0)
        return version;
    rule.allowed_access = rights_of(access) & all_that_can_be((uint32_t)version).handled_access_fs;
    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return error_set(err, -errno, "%s", path);
    if (fstat(rule.parent_fd, &status) < 0)
        ret = error_set(err, -errno, "%s", path);
    else if (!S_ISDIR(status.st_mode))
        rule.allowed_access &= FS_OF_FILES; /* the others are not for files to have: EINVAL */
    if (ret == 0 && rule.allowed_access != 0 &&
        syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0)
        ret = error_set(err, -errno, "allow %s in a Landlock ruleset", path);
    close(rule.parent_fd);
    return ret;
}

int kvmshim_landlock_restrict(int ruleset, kvmshim_error *err)
{
    /* Without it, what a set-user-ID program does could be decided by who starts it. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_set(err, -errno, "set no_new_privs");
    if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        return error_set(err, -errno, "enforce a Landlock ruleset");
    return 0;
}
