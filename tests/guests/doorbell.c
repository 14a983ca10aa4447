/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings the doorbells at port 0x5000 (16 bits, values 1 to 4) and at address 0xd0000000
 * (32 bits), "rings=N" times, counting the rounds in RAM.
 */
#include "runtime/cmdline.h"
#include "runtime/uart.h"

enum { PORT = 0x5000, ADDRESS = 0xd0000000 };

void guest_main(const struct start_info *info);

void guest_main(const struct start_info *info)
{
    uint32_t rings = cmdline_number(info, "rings=", 4);

    for (uint32_t i = 0; i < rings; i++) {
        out16(PORT, (uint16_t)(1 + i % 4));
        *mmio32(ADDRESS) = i;
        ++*mmio64(COUNTERS);
    }
    put_text("rang\n");
    power_off();
}
