/* SPDX-License-Identifier: Apache-2.0 */
/* Says hello and halts with interrupts off: a guest that will not stop by itself. */
#include "runtime/uart.h"

void guest_main(void);

void guest_main(void)
{
    put_text("hello from the guest\n");
    halt_forever();
}
