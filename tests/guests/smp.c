/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the other processors ("cpus=N"), each of which counts itself; prints how many run. */
#include "runtime/cmdline.h"
#include "runtime/smp.h"
#include "runtime/uart.h"

static uint32_t online = 1;

void guest_main(const struct start_info *info);

void ap_main(uint32_t number)
{
    (void)number;
    __atomic_fetch_add(&online, 1, __ATOMIC_SEQ_CST);
}

void guest_main(const struct start_info *info)
{
    uint32_t cpus = cmdline_number(info, "cpus=", 2);

    start_processors(cpus);
    while (__atomic_load_n(&online, __ATOMIC_SEQ_CST) < cpus)
        spin_hint();
    put_text("cpus ");
    put_number(online);
    put_char('\n');
    power_off();
}
