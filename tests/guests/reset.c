/* SPDX-License-Identifier: Apache-2.0 */
/* Resets the machine as Linux does with reboot=k: command 0xfe of the keyboard controller. */
#include "runtime/uart.h"

void guest_main(void);

void guest_main(void)
{
    put_text("reset\n");
    out8(PORT_I8042, 0xfe);
    halt_forever();
}
