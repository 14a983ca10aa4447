/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end of a serial port or a console: comes, talks, listens too little, goes. */
#ifndef KVM_SHIM_FUZZ_PEER_H
#define KVM_SHIM_FUZZ_PEER_H

#include "harness.h"

enum {
    PEER_SOCKET = ACTION_TARGET, /* connect a socket pair with little room */
    PEER_PIPE,                   /* output to a pipe with little room, no input */
    PEER_NULL,                   /* /dev/null: at its end at once, takes everything */
    PEER_DETACH,
    PEER_HANG_UP, /* close the peer's side */
    PEER_TALK,    /* the peer sends up to 8 bytes */
    PEER_LISTEN,  /* the peer takes what is there */
    PEER_TARGET,  /* two that are the target's own */
    PEER_TARGET_2,
    PEER_PTY, /* with a window of data[0] columns and data[1] rows */
};

struct peer {
    kvmshim_device *device;
    int (*attach)(kvmshim_device *device, int input, int output, kvmshim_error *err);
    int fd; /* his end; -1 at first */
};

void peer_act(struct peer *peer, const struct fuzz_record *record);
void peer_hang_up(struct peer *peer);

#endif
