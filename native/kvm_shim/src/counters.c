/* SPDX-License-Identifier: Apache-2.0 */
#include "counters.h"

#include <stdarg.h>
#include <stdio.h>

void counters_add(struct counters *counters, uint64_t value, const char *format, ...)
{
    va_list arguments;

    if (counters->count < counters->capacity) {
        kvmshim_counter *counter = &counters->entries[counters->count];

        va_start(arguments, format);
        vsnprintf(counter->name, sizeof(counter->name), format, arguments);
        va_end(arguments);
        counter->value = value;
    }
    counters->count++;
}
