/* SPDX-License-Identifier: Apache-2.0 */
/* Resets the machine through the FADT's reset register. */
#include "runtime/uart.h"

void guest_main(void);

void guest_main(void)
{
    put_text("acpi reset\n");
    out8(PORT_SLEEP, SLEEP_RESET);
    halt_forever();
}
