/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load of the benchmarks: one small static program, the same in every guest and on the
 * host, so that what differs is the VMM.
 *
 *   load disk PATH read|write random|sequential BLOCK DEPTH JOBS SECONDS
 *   load serve ADDRESS                              answers the next two, for ever
 *   load stream ADDRESS send|receive STREAMS SECONDS
 *   load ping ADDRESS SECONDS
 *
 * ADDRESS is tcp:IP:PORT, vsock:CID:PORT or unix:PATH. A load prints one line of JSON.
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/vm_sockets.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 128 << 10, THREADS_MAX = 64 };

static atomic_ullong operations, bytes;
static double deadline;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *allocate(size_t size)
{
    void *memory;

    if (posix_memalign(&memory, 4096, size) != 0)
        errx(1, "no memory");
    memset(memory, 0x5a, size);
    return memory;
}

/* Run `count` times `function` in threads for `seconds`, and print what they did. */
static void measure(void *(*function)(void *), uintptr_t count, double seconds)
{
    pthread_t threads[THREADS_MAX];
    double started = now(), took;

    if (count > THREADS_MAX)
        errx(1, "more than %d threads", THREADS_MAX);
    deadline = started + seconds;
    for (uintptr_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, function, (void *)i) != 0)
            errx(1, "no thread");
    for (uintptr_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    took = now() - started;
    printf("{\"operations\": %llu, \"bytes\": %llu, \"seconds\": %.6f}\n", operations, bytes, took);
}

/* ---- disk ------------------------------------------------------------------ */

static struct {
    int fd;
    bool write, random;
    uint64_t block, blocks;
    unsigned int depth, jobs;
} disk;

static uint64_t next_block(uint64_t *state, uint64_t *sequence)
{
    if (!disk.random)
        return (*sequence)++ % disk.blocks;
    *state ^= *state << 13; /* xorshift64 */
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % disk.blocks;
}

static void *disk_job(void *number)
{
    uint64_t state = 0x9e3779b97f4a7c15u * ((uintptr_t)number + 1);
    uint64_t sequence = (uintptr_t)number * disk.blocks / disk.jobs;
    uint8_t *buffers = allocate(disk.depth * disk.block);
    unsigned int flying = 0, idle[1024], idle_count = 0;
    struct io_uring ring;

    if (io_uring_queue_init(disk.depth, &ring, 0) < 0)
        errx(1, "io_uring");
    while (idle_count < disk.depth) {
        idle[idle_count] = idle_count;
        idle_count++;
    }
    for (bool more = true; more || flying > 0;) {
        struct io_uring_cqe *cqe;
        unsigned int head, seen = 0;

        while (more && idle_count > 0) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
            unsigned int slot = idle[--idle_count];
            uint64_t offset = next_block(&state, &sequence) * disk.block;

            io_uring_prep_rw(disk.write ? IORING_OP_WRITE : IORING_OP_READ, sqe, disk.fd,
                             buffers + slot * disk.block, (unsigned int)disk.block, offset);
            io_uring_sqe_set_data64(sqe, slot);
            flying++;
        }
        if (io_uring_submit_and_wait(&ring, 1) < 0)
            errx(1, "io_uring_submit");
        io_uring_for_each_cqe(&ring, head, cqe)
        {
            if (cqe->res != (int)disk.block)
                errx(1, "I/O: %s", cqe->res < 0 ? strerror(-cqe->res) : "short");
            idle[idle_count++] = (unsigned int)io_uring_cqe_get_data64(cqe);
            seen++;
        }
        io_uring_cq_advance(&ring, seen);
        flying -= seen;
        operations += seen;
        bytes += seen * disk.block;
        more = now() < deadline;
    }
    io_uring_queue_exit(&ring);
    return NULL;
}

static void load_disk(char **argument)
{
    disk.write = strcmp(argument[1], "write") == 0;
    disk.random = strcmp(argument[2], "random") == 0;
    disk.block = strtoull(argument[3], NULL, 10);
    disk.depth = (unsigned int)strtoul(argument[4], NULL, 10);
    disk.jobs = (unsigned int)strtoul(argument[5], NULL, 10);
    disk.fd = open(argument[0], O_DIRECT | (disk.write ? O_RDWR : O_RDONLY));
    if (disk.fd < 0)
        err(1, "%s", argument[0]);
    disk.blocks = (uint64_t)lseek(disk.fd, 0, SEEK_END) / disk.block;
    if (disk.blocks == 0 || disk.depth == 0 || disk.depth > 1024)
        errx(1, "nothing to do");
    measure(disk_job, disk.jobs, strtod(argument[6], NULL));
}

/* ---- sockets --------------------------------------------------------------- */

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in tcp;
        struct sockaddr_vm vsock;
        struct sockaddr_un local;
    };
    socklen_t size;
};

static struct address address_of(char *text)
{
    struct address address = {0};
    char *kind = strtok(text, ":"), *host = strtok(NULL, ":"), *port = strtok(NULL, ":");

    if (host == NULL)
        errx(1, "an address is kind:host[:port]");
    if (strcmp(kind, "unix") == 0) {
        address.local.sun_family = AF_UNIX;
        strncpy(address.local.sun_path, host, sizeof(address.local.sun_path) - 1);
        address.size = sizeof(address.local);
    } else if (strcmp(kind, "vsock") == 0 && port != NULL) {
        address.vsock.svm_family = AF_VSOCK;
        address.vsock.svm_cid = (unsigned int)strtol(host, NULL, 10);
        address.vsock.svm_port = (unsigned int)strtoul(port, NULL, 10);
        address.size = sizeof(address.vsock);
    } else if (port != NULL) {
        address.tcp.sin_family = AF_INET;
        address.tcp.sin_addr.s_addr = inet_addr(host);
        address.tcp.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
        address.size = sizeof(address.tcp);
    }
    return address;
}

static int socket_for(const struct address *address)
{
    int one = 1;
    int fd = socket(address->any.sa_family, SOCK_STREAM, 0);

    if (fd < 0)
        err(1, "socket");
    if (address->any.sa_family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    return fd;
}

/* What a client asks its server for, in the first byte. */
enum { SINK = 's', SOURCE = 'r', ECHO = 'e' };

static void *answer(void *opaque)
{
    int fd = (int)(uintptr_t)opaque;
    char *buffer = allocate(CHUNK);
    ssize_t size = 1;
    char wish;

    if (read(fd, &wish, 1) == 1) {
        while (size > 0) {
            size = wish == SOURCE ? CHUNK : read(fd, buffer, wish == ECHO ? 1 : CHUNK);
            if (size > 0 && wish != SINK)
                size = write(fd, buffer, (size_t)size);
        }
    }
    close(fd);
    free(buffer);
    return NULL;
}

static void serve(const struct address *address)
{
    int listener = socket_for(address);

    if (bind(listener, &address->any, address->size) < 0 || listen(listener, 64) < 0)
        err(1, "listen");
    puts("serving");
    fflush(stdout);
    for (;;) {
        int one = 1;
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;

        if (fd < 0)
            err(1, "accept");
        if (address->any.sa_family == AF_INET)
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (pthread_create(&thread, NULL, answer, (void *)(uintptr_t)fd) != 0)
            errx(1, "no thread");
        pthread_detach(thread);
    }
}

static struct address peer;
static char wanted;

static void *client(void *opaque)
{
    int fd = socket_for(&peer);
    char *buffer = allocate(CHUNK);

    (void)opaque;
    if (connect(fd, &peer.any, peer.size) < 0 || write(fd, &wanted, 1) != 1)
        err(1, "connect");
    while (now() < deadline) {
        ssize_t size = 1;

        if (wanted == ECHO && write(fd, buffer, 1) != 1)
            err(1, "write");
        if (wanted == SINK)
            size = write(fd, buffer, CHUNK);
        else
            size = read(fd, buffer, CHUNK);
        if (size <= 0)
            err(1, "the peer went away");
        operations++;
        bytes += (unsigned long long)size;
    }
    close(fd);
    free(buffer);
    return NULL;
}

int main(int count, char **argument)
{
    const char *what = count > 1 ? argument[1] : "";

    signal(SIGPIPE, SIG_IGN);
    if (strcmp(what, "disk") == 0 && count == 9) {
        load_disk(argument + 2);
        return 0;
    }
    if (count > 2)
        peer = address_of(argument[2]);
    if (strcmp(what, "serve") == 0 && count == 3) {
        serve(&peer);
    } else if (strcmp(what, "stream") == 0 && count == 6) {
        wanted = strcmp(argument[3], "send") == 0 ? SINK : SOURCE;
        measure(client, strtoul(argument[4], NULL, 10), strtod(argument[5], NULL));
    } else if (strcmp(what, "ping") == 0 && count == 4) {
        wanted = ECHO;
        measure(client, 1, strtod(argument[3], NULL));
    } else {
        errx(2, "see the head of load.c");
    }
    return 0;
}
