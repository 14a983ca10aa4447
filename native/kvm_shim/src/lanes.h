/* SPDX-License-Identifier: Apache-2.0 */
/* Bus data is little-endian bytes (bus.h); device models that hold wider registers convert here. */
#ifndef KVM_SHIM_LANES_H
#define KVM_SHIM_LANES_H

#include <stdint.h>

static inline uint32_t lanes_get32(const uint8_t data[4])
{
    return (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
           (uint32_t)data[3] << 24;
}

static inline void lanes_put32(uint8_t data[4], uint32_t value)
{
    data[0] = (uint8_t)value;
    data[1] = (uint8_t)(value >> 8);
    data[2] = (uint8_t)(value >> 16);
    data[3] = (uint8_t)(value >> 24);
}

#endif
