/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets: how much a device may do in a time. */
#ifndef KVM_SHIM_LIMITER_H
#define KVM_SHIM_LIMITER_H

#include <stdint.h>

#include "kvm_shim.h"

struct limiter;

/* The limiter behind a public handle (NULL for NULL); NULL and *err for another device. */
int limiter_of(kvmshim_device *device, struct limiter **limiter, kvmshim_error *err);

/*
 * Take tokens for `operations` of `bytes` in all. 0: taken. Otherwise nothing was taken, and
 * it is worth trying again in that many nanoseconds. What asks while there is any token left
 * gets all it wants, and the bucket owes the rest: so large and small requests take turns
 * where they share a bucket, and none is too large to pass. NULL has no limit. Any thread.
 */
uint64_t limiter_take(struct limiter *limiter, uint64_t bytes, uint64_t operations);

/* Give back what was taken for something that was then not done. */
void limiter_return(struct limiter *limiter, uint64_t bytes, uint64_t operations);

#endif
