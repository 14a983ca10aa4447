/* SPDX-License-Identifier: Apache-2.0 */
/* The command line, out of the start_info that the PVH loader hands over. */
#ifndef GUEST_CMDLINE_H
#define GUEST_CMDLINE_H

#include <stddef.h>
#include <stdint.h>

/* xen/interface/hvm/start_info.h, version 1 */
struct start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
    uint32_t memmap_entries, reserved;
};

/* The text after the first "key" in the command line, or NULL. */
static inline const char *cmdline_find(const struct start_info *info, const char *key)
{
    const char *at = (const char *)(uintptr_t)info->cmdline_paddr;

    for (; at != NULL && *at != '\0'; at++) {
        size_t length = 0;

        while (key[length] != '\0' && at[length] == key[length])
            length++;
        if (key[length] == '\0')
            return at + length;
    }
    return NULL;
}

/* The decimal number after `key` ("cpus="), or `fallback`. */
static inline uint32_t cmdline_number(const struct start_info *info, const char *key,
                                      uint32_t fallback)
{
    const char *at = cmdline_find(info, key);
    uint32_t number = 0;

    if (at == NULL)
        return fallback;
    while (*at >= '0' && *at <= '9')
        number = number * 10 + (uint32_t)(*at++ - '0');
    return number;
}

#endif
