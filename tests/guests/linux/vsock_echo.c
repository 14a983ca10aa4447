/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends back what comes in on vsock connections, each until its peer closes its
 * half of it:
 *
 *     vsock_echo listen PORT     of all that come, a process for each
 *     vsock_echo connect PORT    of one to the host
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define BACKLOG 1024
#define CHUNK 65536

static int echo(int peer)
{
    static char data[CHUNK];
    ssize_t got;

    while ((got = read(peer, data, sizeof(data))) > 0) {
        for (ssize_t sent = 0; sent < got;) {
            ssize_t now = write(peer, data + sent, (size_t)(got - sent));

            if (now < 0)
                return 1;
            sent += now;
        }
    }
    return got != 0;
}

static int serve(int listener)
{
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int peer = accept(listener, NULL, NULL);

        if (peer < 0)
            return 1;
        if (fork() == 0) {
            close(listener);
            return echo(peer);
        }
        close(peer);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_vm address = {.svm_family = AF_VSOCK};
    const struct sockaddr *name = (struct sockaddr *)&address;
    int end = socket(AF_VSOCK, SOCK_STREAM, 0);

    if (argc != 3)
        return 2;
    address.svm_port = (unsigned int)strtoul(argv[2], NULL, 10);
    if (strcmp(argv[1], "connect") == 0) {
        address.svm_cid = VMADDR_CID_HOST;
        if (connect(end, name, sizeof(address)) == 0)
            return echo(end);
    } else {
        address.svm_cid = VMADDR_CID_ANY;
        if (bind(end, name, sizeof(address)) == 0 && listen(end, BACKLOG) == 0)
            return serve(end);
    }
    perror("vsock_echo");
    return 1;
}
