/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Have each thread of a process open a file, as code that took the thread over would.
 *
 * usage: open_from_threads PID FLAGS NAME PATH...
 * With a NAME only the threads called so do it.
 * Prints, for each thread and path, a line "TID INDEX RESULT NAME" with what openat(2) returned,
 * a descriptor that is closed again or a negative errno. Threads that the kernel has made for
 * itself in the process are left out.
 *
 * The thread is stopped (ptrace), made to perform the system call at an instruction that is
 * there for that, the one in the vDSO or wherever it waits, and then goes on as if nothing
 * had been.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define RED_ZONE 128
#define SYSCALL_INSTRUCTION 0x050f
#define NO_PROGRAM 1 /* no error and no descriptor: a thread of the kernel's own */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void stop(pid_t tid)
{
    int status;

    if (ptrace(PTRACE_SEIZE, tid, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
        die("attach");
    if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
        die("wait for the stop");
}

/* Find the bytes of the instruction in the program's own code. */
static unsigned long find_instruction(pid_t pid)
{
    char path[64], line[512];
    unsigned long start, end, found = 0;
    FILE *maps;
    int memory;

    snprintf(path, sizeof(path), "/proc/%d/mem", pid);
    memory = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    maps = fopen(path, "re");
    if (memory < 0 || maps == NULL)
        die(path);
    while (found == 0 && fgets(line, sizeof(line), maps) != NULL) {
        unsigned char *code;
        ssize_t size;

        if (sscanf(line, "%lx-%lx r-xp", &start, &end) != 2 || strstr(line, "libc.so") == NULL ||
            strstr(line, " r-xp ") == NULL)
            continue;
        code = malloc(end - start);
        size = code == NULL ? -1 : pread(memory, code, end - start, (off_t)start);
        for (ssize_t i = 0; i + 1 < size && found == 0; i++)
            if (code[i] == (SYSCALL_INSTRUCTION & 0xff) && code[i + 1] == SYSCALL_INSTRUCTION >> 8)
                found = start + (unsigned long)i;
        free(code);
    }
    fclose(maps);
    close(memory);
    if (found == 0) {
        fprintf(stderr, "no system call instruction in the C library\n");
        exit(1);
    }
    return found;
}

static long perform(pid_t tid, const struct user_regs_struct *saved, unsigned long instruction,
                    long number, unsigned long a, unsigned long b, unsigned long c)
{
    struct user_regs_struct regs = *saved;
    int status;

    regs.rip = instruction;
    regs.rax = (unsigned long)number;
    regs.orig_rax = (unsigned long)-1; /* what it waits in is not to be begun again here */
    regs.rdi = a;
    regs.rsi = b;
    regs.rdx = c;
    regs.r10 = 0;
    if (ptrace(PTRACE_SETREGS, tid, 0, &regs) < 0)
        die("set the registers");
    do {
        if (ptrace(PTRACE_SINGLESTEP, tid, 0, 0) < 0)
            die("step");
        if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
            die("wait for the step");
        if (ptrace(PTRACE_GETREGS, tid, 0, &regs) < 0)
            die("read the registers");
    } while (regs.rip == instruction);
    return (long)regs.rax;
}

static long open_in(pid_t tid, unsigned long instruction, int flags, const char *path)
{
    struct user_regs_struct saved;
    unsigned long place;
    long result;
    struct iovec local, remote;
    size_t size = strlen(path) + 1;

    if (ptrace(PTRACE_GETREGS, tid, 0, &saved) < 0)
        die("read the registers");
    if (saved.rsp == 0)
        return NO_PROGRAM;
    place = (saved.rsp - RED_ZONE - size) & ~15ul;
    local = (struct iovec){.iov_base = (void *)path, .iov_len = size};
    remote = (struct iovec){.iov_base = (void *)place, .iov_len = size};
    if (process_vm_writev(tid, &local, 1, &remote, 1, 0) != (ssize_t)size)
        die("write the path");
    result = perform(tid, &saved, instruction, SYS_openat, (unsigned long)AT_FDCWD, place,
                     (unsigned long)flags);
    if (result >= 0)
        perform(tid, &saved, instruction, SYS_close, (unsigned long)result, 0, 0);
    if (ptrace(PTRACE_SETREGS, tid, 0, &saved) < 0)
        die("restore the registers");
    return result;
}

static void name_of(pid_t pid, pid_t tid, char *name, size_t size)
{
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", pid, tid);
    file = fopen(path, "re");
    if (file == NULL || fgets(name, (int)size, file) == NULL)
        die(path);
    name[strcspn(name, "\n")] = '\0';
    fclose(file);
}

int main(int count, char **arguments)
{
    char path[64], name[32];
    unsigned long instruction;
    struct dirent *entry;
    pid_t pid;
    int flags;
    DIR *tasks;

    if (count < 5) {
        fprintf(stderr, "usage: %s PID FLAGS NAME PATH...\n", arguments[0]);
        return 2;
    }
    pid = (pid_t)atoi(arguments[1]);
    flags = atoi(arguments[2]);
    instruction = find_instruction(pid);
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    tasks = opendir(path);
    if (tasks == NULL)
        die(path);
    while ((entry = readdir(tasks)) != NULL) {
        pid_t tid = (pid_t)atoi(entry->d_name);

        if (tid == 0)
            continue;
        name_of(pid, tid, name, sizeof(name));
        if (*arguments[3] != '\0' && strcmp(name, arguments[3]) != 0)
            continue;
        stop(tid);
        for (int i = 4; i < count; i++) {
            long result = open_in(tid, instruction, flags, arguments[i]);

            if (result != NO_PROGRAM)
                printf("%d %d %ld %s\n", tid, i - 4, result, name);
        }
        if (ptrace(PTRACE_DETACH, tid, 0, 0) < 0)
            die("let go");
    }
    closedir(tasks);
    return 0;
}
