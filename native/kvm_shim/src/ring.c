/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <string.h>

void ring_consume(struct ring *ring, uint32_t size)
{
    ring->head = (ring->head + size) % RING_SIZE;
    ring->count -= size;
}

uint32_t ring_peek(const struct ring *ring, uint8_t *data, uint32_t size)
{
    uint32_t first = RING_SIZE - ring->head;

    if (size > ring->count)
        size = ring->count;
    if (first > size)
        first = size;
    memcpy(data, ring->bytes + ring->head, first);
    memcpy(data + first, ring->bytes, size - first);
    return size;
}

void ring_append(struct ring *ring, const uint8_t *data, uint32_t size)
{
    uint32_t tail = (ring->head + ring->count) % RING_SIZE;
    uint32_t first = RING_SIZE - tail;

    if (first > size)
        first = size;
    memcpy(ring->bytes + tail, data, first);
    memcpy(ring->bytes, data + first, size - first);
    ring->count += size;
}

void ring_save(const struct ring *ring, struct ring_state *saved)
{
    memset(saved, 0, sizeof(*saved));
    saved->count = ring_peek(ring, saved->bytes, RING_SIZE);
}

bool ring_valid(const struct ring_state *saved)
{
    return saved->count <= RING_SIZE;
}

void ring_load(struct ring *ring, const struct ring_state *saved)
{
    ring->head = 0;
    ring->count = 0;
    ring_append(ring, saved->bytes, saved->count);
}
