/* SPDX-License-Identifier: Apache-2.0 */
/* Persistent memory: requests of all kinds, many at once, with and without a file to flush. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"
#include "memory.h"
#include "virtio.h"

enum {
    SIZE = 0x200000,
    GPA = 0x10000000,

    /* Of an input's first byte. */
    DISCARD = 1,
    READY = 2, /* begin where a driver has done its work */
};

/* No access of the device's goes through the mapping. */
int memory_map_file(kvmshim_vm *vm, uint64_t gpa, uint64_t size, int fd, bool copy_on_write,
                    kvmshim_error *err)
{
    (void)vm;
    FUZZ_CHECK(gpa == GPA && size == SIZE && fd >= 0);
    return copy_on_write || err == NULL ? 0 : error_set(err, -EACCES, "map");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t options = size ? data[0] : 0;
    kvmshim_vm vm = {0};
    kvmshim_pmem_config config = {
        .fd = memfd_create("fuzz-pmem", MFD_CLOEXEC),
        .gpa = GPA,
        .size = SIZE,
        .discard_writes = options & DISCARD,
    };
    kvmshim_device *pmem;
    kvmshim_place place;

    FUZZ_CHECK(config.fd >= 0 && ftruncate(config.fd, SIZE) == 0);
    fuzz_virtio_begin(&vm);
    place = fuzz_place(&vm, 1);
    FUZZ_CHECK(kvmshim_pmem_create(&vm, &place, &config, &pmem, NULL) == 0);
    close(config.fd);
    if (options & READY)
        fuzz_virtio_ready(&vm, pmem, UINT64_MAX);
    if (size)
        fuzz_virtio_play(&vm, pmem, data + 1, size - 1, NULL, NULL);
    fuzz_end(&vm);
    return 0;
}
