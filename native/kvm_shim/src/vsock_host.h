/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of vsock connections: the listener, its clients' greeting, servers, time. */
#ifndef KVM_SHIM_VSOCK_HOST_H
#define KVM_SHIM_VSOCK_HOST_H

#include "vsock_mux.h"

/* `listener` is duplicated. On failure nothing is left open. */
int vsock_host_open(struct vsock_mux *mux, int listener, const char *path, kvmshim_error *err);
void vsock_host_close(struct vsock_mux *mux);

/* mux->epoll_fd is readable: see to what happened. */
void vsock_host_poll(struct vsock_mux *mux);
/* Time stood still for the guest: deadlines begin anew. */
void vsock_host_resume(struct vsock_mux *mux);

/* The guest asked for a connection: look for a server. */
void vsock_host_connect(struct vsock_mux *mux, struct vsock_connection *connection);
/* The guest accepted: tell the client. */
void vsock_host_accepted(struct vsock_mux *mux, struct vsock_connection *connection);
/* Give the connection two seconds, from now on / as long as it likes. */
void vsock_host_wait(struct vsock_mux *mux, struct vsock_connection *connection);
void vsock_host_wait_over(struct vsock_mux *mux, struct vsock_connection *connection);
/* Be told of room in the socket while something is kept for it. */
void vsock_host_watch_room(struct vsock_mux *mux, struct vsock_connection *connection);

#endif
