/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts for ever in RAM, at COUNTERS on the boot processor and 64 bytes further for each
 * processor more ("cpus=N"), and prints the boot processor's count now and then. Powers off
 * at "stop=N", once the second processor counts as well.
 */
#include "runtime/cmdline.h"
#include "runtime/smp.h"
#include "runtime/uart.h"

enum { LINE_EVERY = 1 << 14 };

void guest_main(const struct start_info *info);

void ap_main(uint32_t number)
{
    for (;;)
        ++*mmio64(COUNTERS + 64 * (uintptr_t)number);
}

void guest_main(const struct start_info *info)
{
    volatile uint64_t *counter = mmio64(COUNTERS);
    uint64_t stop = cmdline_number(info, "stop=", 0);
    uint32_t cpus = cmdline_number(info, "cpus=", 1);

    start_processors(cpus);
    for (;;) {
        uint64_t count = ++*counter;

        if (count % LINE_EVERY == 0) {
            put_text("count ");
            put_number(count);
            put_char('\n');
        }
        if (count == stop) {
            while (cpus > 1 && *mmio64(COUNTERS + 64) == 0)
                spin_hint();
            power_off();
        }
    }
}
