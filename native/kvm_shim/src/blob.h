/* SPDX-License-Identifier: Apache-2.0 */
/* The frame around every saved state: what it is, its version, its length, its checksum. */
#ifndef KVM_SHIM_BLOB_H
#define KVM_SHIM_BLOB_H

#include <stdint.h>

#include "kvm_shim.h"

struct blob_header {
    uint32_t magic;
    uint32_t version;
    char kind[32];
    uint64_t length; /* of what follows */
    uint32_t checksum; /* CRC-32 of what follows: truncation and bit rot, not forgery */
    uint32_t reserved;
};

/*
 * Begin a save of `length` bytes of payload: sets *size to the whole blob's length, and
 * *payload to where the payload goes, or to NULL when only the size was asked for
 * (data == NULL). -ENOSPC when the capacity does not do.
 */
int blob_begin(void *data, uint64_t capacity, uint64_t length, uint64_t *size, void **payload,
               kvmshim_error *err);

/* Write the header, once the payload is complete. */
void blob_finish(void *data, const char *kind, uint32_t version, uint64_t length);

/* Check everything the header says; *payload and *length are what it frames. */
int blob_open(const void *data, uint64_t size, const char *kind, uint32_t version,
              const void **payload, uint64_t *length, kvmshim_error *err);

#endif
