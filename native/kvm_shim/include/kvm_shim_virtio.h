/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second half of kvm_shim's public interface: PCI devices, nearly all of them virtio.
 * The rules at the top of kvm_shim.h hold here too. Where a function takes a device of one
 * kind, a device of another is refused with -EINVAL.
 */
#ifndef KVM_SHIM_VIRTIO_H
#define KVM_SHIM_VIRTIO_H

#include <stdint.h>

#include "kvm_shim.h"

/* cffi: begin */

/* ---- what all have in common ------------------------------------------- */

/* Where a PCI device is and what it is called. */
typedef struct kvmshim_place {
    kvmshim_device *pci; /* the bus */
    const char *id;      /* 1 to 31 characters: the source of its events */
    uint8_t slot;        /* 1 to 31: its number on the bus; the function is 0 */
    uint64_t bar;        /* where its BAR 0 starts out, aligned to its size; 0 for none. Virtio
                            devices need 512 KiB, pvpanic 4 KiB */
} kvmshim_place;

typedef struct kvmshim_counter {
    char name[40];
    uint64_t value;
} kvmshim_counter;

/* The counters of a device; *count is set to how many there are, -E2BIG when that is more
 * than the capacity. Any thread may ask while the VM exists. */
int kvmshim_device_counters(kvmshim_device *device, kvmshim_counter *counters, uint32_t capacity,
                            uint32_t *count, kvmshim_error *err);

/* ---- rate limiter ------------------------------------------------------ */

typedef struct kvmshim_bucket {
    uint64_t size;           /* tokens for each refill time; 0: no limit */
    uint64_t one_time_burst; /* tokens on top, once */
    uint64_t refill_ms;      /* from empty to full */
} kvmshim_bucket;

/* Token buckets for bytes and for operations, of one device or of several that share them. A
 * limiter is a device without registers: it has state to save, and it belongs to the VM. */
int kvmshim_limiter_create(kvmshim_vm *vm, const kvmshim_bucket *bandwidth,
                           const kvmshim_bucket *operations, kvmshim_device **limiter,
                           kvmshim_error *err);

/* ---- disk -------------------------------------------------------------- */

enum { KVMSHIM_BLOCK_AUTO = 0, KVMSHIM_BLOCK_URING = 1, KVMSHIM_BLOCK_THREADS = 2 };

typedef struct kvmshim_block_config {
    int fd;              /* a raw image or a block device; O_DIRECT when it was opened so */
    uint8_t readonly;
    uint8_t sparse;      /* offer discard and write-zeroes */
    uint8_t engine;      /* AUTO: io_uring, or a pool of threads where that is refused */
    uint16_t num_queues; /* each has a thread of its own */
    uint16_t queue_size; /* a power of two, 4 to 1024 */
    char serial[20];     /* what GET_ID tells; NUL-padded */
    kvmshim_device *limiter; /* NULL: none */
} kvmshim_block_config;

int kvmshim_block_create(kvmshim_vm *vm, const kvmshim_place *place,
                         const kvmshim_block_config *config, kvmshim_device **device,
                         kvmshim_error *err);
/* The engine in use: KVMSHIM_BLOCK_URING or KVMSHIM_BLOCK_THREADS. */
int kvmshim_block_engine(kvmshim_device *block, kvmshim_error *err);

/* ---- network ----------------------------------------------------------- */

typedef struct kvmshim_net_config {
    const int *taps;      /* one for each queue pair: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR */
    const int *vhosts;    /* as many open /dev/vhost-net; NULL: the shim moves the frames */
    uint16_t queue_pairs;
    uint16_t queue_size;  /* a power of two, 4 to 1024 */
    uint16_t mtu;         /* 0: not told */
    uint8_t mac[6];
    uint8_t offload_csum, offload_tso, offload_ufo;
    kvmshim_device *rx_limiter, *tx_limiter; /* NULL: none; not with vhosts */
} kvmshim_net_config;

int kvmshim_net_create(kvmshim_vm *vm, const kvmshim_place *place,
                       const kvmshim_net_config *config, kvmshim_device **device,
                       kvmshim_error *err);

/* ---- console, entropy, watchdog, panic --------------------------------- */

int kvmshim_console_create(kvmshim_vm *vm, const kvmshim_place *place, kvmshim_device **device,
                           kvmshim_error *err);
/* As kvmshim_serial_attach() and _detach(). */
int kvmshim_console_attach(kvmshim_device *console, int input, int output, kvmshim_error *err);
int kvmshim_console_detach(kvmshim_device *console, kvmshim_error *err);
/* Tell the guest the size of the terminal; 0 x 0 when it has none. */
int kvmshim_console_resize(kvmshim_device *console, uint16_t columns, uint16_t rows,
                           kvmshim_error *err);

/* `fd` is where the entropy comes from; -1: getrandom(2). */
int kvmshim_rng_create(kvmshim_vm *vm, const kvmshim_place *place, int fd,
                       kvmshim_device *limiter, kvmshim_device **device, kvmshim_error *err);

/* Resets the VM (KVMSHIM_EVENT_RESET) when the guest, having begun, does not come by for
 * `timeout_ms`. */
int kvmshim_watchdog_create(kvmshim_vm *vm, const kvmshim_place *place, uint32_t timeout_ms,
                            kvmshim_device **device, kvmshim_error *err);

/* PCI 1b36:0011. What the guest reports is KVMSHIM_EVENT_PANICKED; it goes on running. */
int kvmshim_pvpanic_create(kvmshim_vm *vm, const kvmshim_place *place, kvmshim_device **device,
                           kvmshim_error *err);

/* ---- sockets ----------------------------------------------------------- */

/* Virtio sockets over UNIX sockets: a client of `listener` says "CONNECT <port>\n" and is
 * answered "OK <port>\n"; a guest that connects to the host's port N reaches "<path>_N". */
int kvmshim_vsock_create(kvmshim_vm *vm, const kvmshim_place *place, uint32_t cid, int listener,
                         const char *path, kvmshim_device **device, kvmshim_error *err);

/* ---- memory ------------------------------------------------------------ */

typedef struct kvmshim_balloon_config {
    uint64_t size; /* bytes to take from the guest at first; a multiple of 4096 */
    uint8_t deflate_on_oom, free_page_reporting, statistics;
} kvmshim_balloon_config;

int kvmshim_balloon_create(kvmshim_vm *vm, const kvmshim_place *place,
                           const kvmshim_balloon_config *config, kvmshim_device **device,
                           kvmshim_error *err);
int kvmshim_balloon_resize(kvmshim_device *balloon, uint64_t size, kvmshim_error *err);
/* Bytes that the guest has given up at present. */
int kvmshim_balloon_actual(kvmshim_device *balloon, uint64_t *size, kvmshim_error *err);

typedef struct kvmshim_pmem_config {
    int fd;
    uint64_t gpa, size;     /* multiples of 2 MiB; the file is at least that long */
    uint8_t discard_writes; /* the guest's writes are seen by it alone and forgotten */
} kvmshim_pmem_config;

int kvmshim_pmem_create(kvmshim_vm *vm, const kvmshim_place *place,
                        const kvmshim_pmem_config *config, kvmshim_device **device,
                        kvmshim_error *err);

/* cffi: end */

#endif
