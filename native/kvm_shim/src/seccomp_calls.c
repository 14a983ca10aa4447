/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of all system calls but ioctl(). What is in no rule is forbidden; docs/seccomp.md
 * says how a rule is found missing, and how one is added.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "seccomp_rules.h"

/* What pthread_create() asks for: a thread, and neither a process nor a namespace. */
#define THREAD_FLAGS                                                                               \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |            \
     CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

#define MALLOC "malloc() and free(): tables of interrupts, bytes of connections"

static const kvmshim_seccomp_rule rules[] = {
    /* ---- memory ----------------------------------------------------------------- */
    RULE(mmap, CONTROL,
         "memory and files, never as code: what runs was loaded before",
         .tests = {WITHOUT(2, PROT_EXEC)}),
    RULE(mprotect, CONTROL,
         "malloc() opens more of an arena; never to code", .tests = {WITHOUT(2, PROT_EXEC)}),
    RULE(munmap, CONTROL | DISK, "guest RAM, rings, large allocations"),
    RULE(mremap, CONTROL, "realloc(), of a message that is large", SEEN(RARELY)),
    RULE(madvise, CONTROL, "guest RAM's pages: prefault, huge pages, no KSM, no core dump"),
    RULE(madvise, EVERY & ~CONTROL,
         "a thread that ends gives its stack back; the balloon gives guest RAM back",
         .tests = {IS(2, MADV_DONTNEED)}),
    RULE(mmap, EVERY & ~CONTROL, MALLOC, .tests = {WITHOUT(2, PROT_EXEC)}, SEEN(RARELY)),
    RULE(mprotect, EVERY & ~CONTROL, MALLOC, .tests = {WITHOUT(2, PROT_EXEC)}, SEEN(RARELY)),
    RULE(munmap, EVERY & ~(CONTROL | DISK), MALLOC, SEEN(RARELY)),
    RULE(brk, EVERY, MALLOC, SEEN(RARELY)),
#ifdef __SANITIZE_ADDRESS__
    RULE(sigaltstack, EVERY & ~CONTROL, "AddressSanitizer's stack for signals", SEEN(RARELY)),
#endif
    RULE(memfd_create, CONTROL, "guest RAM that others are to map"),
    RULE(ftruncate, CONTROL, "the size of that"),

    /* ---- threads ---------------------------------------------------------------- */
    RULE(clone3, CONTROL,
         "its flags are in memory, where no filter can look: glibc then uses clone()",
         .error = ENOSYS),
    RULE(clone, CONTROL, "threads, never processes", .tests = {IS(0, THREAD_FLAGS)}),
    RULE(set_robust_list, CONTROL, "glibc, in each new thread"),
    RULE(rseq, CONTROL, "glibc, in each new thread"),
    RULE(prctl, CONTROL, "a new thread takes its name", .tests = {IS(0, PR_SET_NAME)}),
    RULE(seccomp, CONTROL,
         "a new thread takes the filter of its kind", .tests = {IS(0, SECCOMP_SET_MODE_FILTER)}),
    RULE(prctl, CONTROL, "core scheduling of the vCPUs", .tests = {IS(0, PR_SCHED_CORE)}),
    RULE(landlock_create_ruleset, CONTROL, "the files of the VM", SEEN(LANDLOCK)),
    RULE(landlock_add_rule, CONTROL, "one of them", SEEN(LANDLOCK)),
    RULE(landlock_restrict_self, CONTROL, "no others from now on", SEEN(LANDLOCK)),
    RULE(prctl, CONTROL, "what the kernel wants before that",
         .tests = {IS(0, PR_SET_NO_NEW_PRIVS)}, SEEN(LANDLOCK)),
    RULE(sched_setaffinity, CONTROL, "the CPUs of vCPUs and queues"),
    RULE(sched_getaffinity, CONTROL, "whether they can be had"),
    RULE(gettid, CONTROL | VCPU, "a new thread notes its number"),
    RULE(getpid, CONTROL | VCPU, "ZeroMQ looks for forks; for the next"),
    RULE(tgkill, CONTROL | VCPU,
         "a signal to a thread of ours ends its KVM_RUN", .tests = {OWN_PID(0)}),
    RULE(sched_getparam, CONTROL, "ZeroMQ, in a thread of a client's"),
    RULE(sched_getscheduler, CONTROL, "the same"),
    RULE(sched_setscheduler, CONTROL, "the same; only to what all have",
         .tests = {IS(1, SCHED_OTHER)}),
    RULE(getpid, WATCHDOG, "for the next", SEEN(RARELY)),
    RULE(tgkill, WATCHDOG, "a watchdog that bites, after half a minute, stops the vCPUs",
         .tests = {OWN_PID(0)}, SEEN(RARELY)),
    RULE(futex, EVERY, "locks and conditions"),
    RULE(sched_yield, CONTROL | VCPU, "who changes a bus waits for its readers", SEEN(RARELY)),
    RULE(rt_sigprocmask, EVERY, "threads start and end with their signals blocked"),
    RULE(rt_sigtimedwait, VCPU, "takes the signal that ended KVM_RUN"),
    RULE(rt_sigaction, CONTROL, "Python, and the worker at its end"),
    RULE(rt_sigreturn, CONTROL, "the end of a signal's handler"),
    RULE(sigaltstack, CONTROL, "Python puts the stack of its crash reports down", SEEN(RARELY)),
    RULE(restart_syscall, EVERY, "a wait goes on after SIGSTOP and SIGCONT", SEEN(RARELY)),
    RULE(exit, EVERY, "a thread's end"),
    RULE(exit_group, CONTROL, "the process's end"),
    RULE(clock_gettime, CONTROL, "CPU time; the other clocks are read without a call"),

    /* ---- waiting ---------------------------------------------------------------- */
    RULE(poll, CONTROL | LINE, "the control loop; whether a terminal is back"),
    RULE(poll, VCPU, "whether an interrupt is pending that the guest masked", SEEN(LINUX)),
    RULE(ppoll, DISK, "a pause, for operations that are under way", SEEN(RARELY)),
    RULE(epoll_create1, CONTROL, "a device's thread; ZeroMQ's"),
    RULE(epoll_ctl, CONTROL | VCPU | LINE | VSOCK, "what a thread waits for"),
    RULE(epoll_ctl, NET | RNG, "a tap that is full; a source of entropy that has none",
         SEEN(RARELY)),
    RULE(epoll_wait, CONTROL | DEVICES, "the loop of a device's thread"),
    RULE(eventfd2, CONTROL, "wake-ups, doorbells, interrupts"),
    RULE(timerfd_create, CONTROL, "devices that do something later"),
    RULE(timerfd_gettime, CONTROL | VCPU, "how long the watchdog still waits"),
    RULE(timerfd_settime, CONTROL | VCPU | (DEVICES & ~(BALLOON | PMEM)), "when"),

    /* ---- files ------------------------------------------------------------------ */
    RULE(read, CONTROL | VCPU | DEVICES, "files, sockets, eventfds"),
    RULE(write, EVERY & ~(BALLOON | PMEM | WATCHDOG), "files, sockets, eventfds, the log"),
    RULE(write, BALLOON | PMEM | WATCHDOG, "interrupts, for guests that do not poll",
         SEEN(LINUX)),
    RULE(openat, CONTROL, "what the configuration names, modules of Python, /proc/self"),
    RULE(close, CONTROL | LINE | DISK | VSOCK, "what was opened"),
    RULE(newfstatat, CONTROL, "what a file is, and how large"),
    RULE(lseek, CONTROL, "Python's files"),
    RULE(pread64, CONTROL, "kernel images and the like, into guest RAM"),
    RULE(getdents64, CONTROL, "how many descriptors are open"),
    RULE(readlink, CONTROL, "the path of a pty"),
    RULE(faccessat2, CONTROL, "whether a file may be used, when a VM is only tried"),
    RULE(unlink, CONTROL, "sockets and locks, when they are closed"),
    RULE(rmdir, CONTROL, "the folder of the worker's socket"),
    RULE(chmod, CONTROL, "who may connect to a socket"),
    RULE(fchmod, CONTROL, "the same, before it can be seen"),
    RULE(flock, CONTROL, "a socket's path belongs to one process"),
    RULE(fallocate, CONTROL | POOL | BALLOON, "holes in disks and shared guest RAM"),
    RULE(fcntl, CONTROL | LINE, "whether a descriptor blocks", .tests = {IS(1, F_GETFL)}),
    RULE(fcntl, CONTROL | LINE, "that it does not", .tests = {IS(1, F_SETFL)}),
    RULE(fcntl, CONTROL,
         "the shim keeps a descriptor of its own", .tests = {IS(1, F_DUPFD_CLOEXEC)}),
    RULE(fcntl, CONTROL, "guest RAM cannot be cut short", .tests = {IS(1, F_ADD_SEALS)}),
    RULE(fcntl, CONTROL, "one VM writes to a disk", .tests = {IS(1, F_OFD_SETLK)}),
    RULE(getrandom, CONTROL | RNG, "MAC addresses, ids, the guest's entropy"),

    /* ---- data ------------------------------------------------------------------- */
    RULE(io_uring_setup, CONTROL, "a disk's ring", SEEN(URING)),
    RULE(io_uring_register, CONTROL | DISK, "its file and its eventfd", SEEN(URING)),
    RULE(io_uring_enter, DISK, "operations on the disk", SEEN(URING)),
    RULE(preadv, POOL, "a read from a disk without io_uring"),
    RULE(pwritev2, POOL, "a write to it"),
    RULE(fdatasync, POOL | PMEM, "a flush of it, or of persistent memory"),
    RULE(readv, NET, "frames from a tap"),
    RULE(writev, NET, "frames to it"),

    /* ---- sockets ---------------------------------------------------------------- */
    RULE(socket, CONTROL | VSOCK,
         "serial ports, consoles, vsock; the IPC", .tests = {IS(0, AF_UNIX)}),
    RULE(socket, CONTROL,
         "a handle for a tap's settings",
         .tests = {IS(0, AF_INET), IS(1, SOCK_DGRAM | SOCK_CLOEXEC)}),
    RULE(socket, CONTROL,
         "the same for an IPv6 address",
         .tests = {IS(0, AF_INET6), IS(1, SOCK_DGRAM | SOCK_CLOEXEC)}, SEEN(RARELY)),
    RULE(bind, CONTROL, "sockets of the VM"),
    RULE(listen, CONTROL, "the same"),
    RULE(accept4, CONTROL | VSOCK, "clients"),
    RULE(connect, CONTROL | VSOCK, "whether a socket's owner lives; a guest's vsock connection"),
    RULE(shutdown, CONTROL, "the end of a connection"),
    RULE(shutdown, VSOCK, "the end of one direction of a guest's connection", SEEN(LINUX)),
    RULE(getsockname, CONTROL, "Python and ZeroMQ, of a new socket"),
    RULE(getpeername, CONTROL, "ZeroMQ, of a client"),
    RULE(getsockopt, CONTROL, "what a socket is, and who its client", .tests = {IS(1, SOL_SOCKET)}),
    RULE(sendto, CONTROL | LINE | VSOCK, "bytes to clients"),
    RULE(recvfrom, CONTROL | LINE | VSOCK, "bytes from them"),
    RULE(sendmsg, VSOCK, "the same in pieces"),
    RULE(recvmsg, VSOCK, "the same in pieces"),
};

const struct seccomp_rules seccomp_calls = {rules, sizeof(rules) / sizeof(rules[0])};
