/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of bytes. */
#ifndef KVM_SHIM_RING_H
#define KVM_SHIM_RING_H

#include <stdbool.h>
#include <stdint.h>

enum { RING_SIZE = 65536 };

struct ring {
    uint32_t head; /* the oldest byte */
    uint32_t count;
    uint8_t bytes[RING_SIZE];
};

/* Copy the oldest `size` bytes, or as many as there are; returns how many. */
uint32_t ring_peek(const struct ring *ring, uint8_t *data, uint32_t size);
/* Forget the oldest `size` bytes; there are as many. */
void ring_consume(struct ring *ring, uint32_t size);
/* Add `size` bytes; there is room for them. */
void ring_append(struct ring *ring, const uint8_t *data, uint32_t size);

/* As part of a device's saved state. */
struct ring_state {
    uint32_t count;
    uint8_t bytes[RING_SIZE]; /* oldest first */
} __attribute__((packed));

void ring_save(const struct ring *ring, struct ring_state *saved);
bool ring_valid(const struct ring_state *saved);
void ring_load(struct ring *ring, const struct ring_state *saved);

#endif
