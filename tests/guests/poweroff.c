/* SPDX-License-Identifier: Apache-2.0 */
/* Enters ACPI S5. */
#include "runtime/uart.h"

void guest_main(void);

void guest_main(void)
{
    put_text("power off\n");
    power_off();
}
