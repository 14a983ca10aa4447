/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(kvmshim_error *err, int code, const char *format, ...)
{
    const char *meaning;
    va_list args;
    size_t used;
    int written;

    if (err == NULL)
        return code;
    err->code = code;
    va_start(args, format);
    written = vsnprintf(err->context, sizeof(err->context), format, args);
    va_end(args);
    if (written < 0) {
        err->context[0] = '\0';
        written = 0;
    }
    used = (size_t)written;
    /* strerror() keeps its text in a buffer shared by all threads; this one is constant. */
    meaning = strerrordesc_np(-code);
    if (meaning != NULL && used < sizeof(err->context))
        snprintf(err->context + used, sizeof(err->context) - used, ": %s", meaning);
    return code;
}
