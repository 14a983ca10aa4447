/* SPDX-License-Identifier: Apache-2.0 */
#include "blob.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "error.h"

#define BLOB_MAGIC UINT32_C(0x424d4c56) /* "VLMB" */
#define CRC32_POLYNOMIAL UINT32_C(0xedb88320) /* IEEE 802.3, reflected */

_Static_assert(sizeof(struct blob_header) == 56, "the header is part of the saved format");

/* Bit by bit: a vCPU's state is some 8 KiB and saved once, a table would be bigger. */
static uint32_t crc32(const uint8_t *data, uint64_t length)
{
    uint32_t crc = UINT32_MAX;

    for (uint64_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? CRC32_POLYNOMIAL : 0);
    }
    return ~crc;
}

int blob_begin(void *data, uint64_t capacity, uint64_t length, uint64_t *size, void **payload,
               kvmshim_error *err)
{
    *size = sizeof(struct blob_header) + length;
    *payload = NULL;
    if (data == NULL)
        return 0;
    if (capacity < *size)
        return error_set(err, -ENOSPC, "saved state of %" PRIu64 " bytes, room for %" PRIu64,
                         *size, capacity);
    *payload = (uint8_t *)data + sizeof(struct blob_header);
    memset(*payload, 0, length);
    return 0;
}

void blob_finish(void *data, const char *kind, uint32_t version, uint64_t length)
{
    uint8_t *payload = (uint8_t *)data + sizeof(struct blob_header);
    struct blob_header header = {
        .magic = BLOB_MAGIC,
        .version = version,
        .length = length,
        .checksum = crc32(payload, length),
    };

    strncpy(header.kind, kind, sizeof(header.kind) - 1);
    memcpy(data, &header, sizeof(header));
}

int blob_open(const void *data, uint64_t size, const char *kind, uint32_t version,
              const void **payload, uint64_t *length, kvmshim_error *err)
{
    char expected[sizeof(((struct blob_header *)0)->kind)] = "";
    const uint8_t *body = (const uint8_t *)data + sizeof(struct blob_header);
    struct blob_header header;

    if (data == NULL || size < sizeof(header))
        return error_set(err, -EINVAL, "%s state of %" PRIu64 " bytes", kind, size);
    memcpy(&header, data, sizeof(header));
    strncpy(expected, kind, sizeof(expected) - 1);
    if (header.magic != BLOB_MAGIC || memcmp(header.kind, expected, sizeof(expected)) != 0)
        return error_set(err, -EINVAL, "this is not saved %s state", kind);
    if (header.version != version)
        return error_set(err, -EINVAL, "%s state has version %u, not %u", kind, header.version,
                         version);
    if (header.length != size - sizeof(header))
        return error_set(err, -EINVAL, "%s state says %" PRIu64 " bytes and has %" PRIu64, kind,
                         header.length, size - sizeof(header));
    if (header.reserved != 0 || crc32(body, header.length) != header.checksum)
        return error_set(err, -EINVAL, "%s state is corrupt", kind);
    *payload = body;
    *length = header.length;
    return 0;
}
