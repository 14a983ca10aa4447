/* SPDX-License-Identifier: Apache-2.0 */
/* Prints "lines=N" lines, more than a pipe or a terminal holds, and powers off. */
#include "runtime/cmdline.h"
#include "runtime/uart.h"

void guest_main(const struct start_info *info);

void guest_main(const struct start_info *info)
{
    uint32_t lines = cmdline_number(info, "lines=", 1);

    for (uint32_t line = 1; line <= lines; line++) {
        put_text("line ");
        put_number(line);
        put_text(" of what nobody may want to read\n");
    }
    power_off();
}
