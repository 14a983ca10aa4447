/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends back what comes in on a vsock port, for as many connections as there
 * are: a process for each, which ends with the half that its peer closes.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define BACKLOG 1024
#define CHUNK 65536

static void echo(int peer)
{
    static char data[CHUNK];
    ssize_t got;

    while ((got = read(peer, data, sizeof(data))) > 0) {
        for (ssize_t sent = 0; sent < got;) {
            ssize_t now = write(peer, data + sent, (size_t)(got - sent));

            if (now < 0)
                exit(1);
            sent += now;
        }
    }
    exit(got != 0);
}

int main(int argc, char **argv)
{
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0);

    if (argc != 2)
        return 2;
    address.svm_port = (unsigned int)strtoul(argv[1], NULL, 10);
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, BACKLOG)) {
        perror("vsock_echo");
        return 1;
    }
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int peer = accept(listener, NULL, NULL);

        if (peer >= 0 && fork() == 0) {
            close(listener);
            echo(peer);
        }
        close(peer);
    }
}
