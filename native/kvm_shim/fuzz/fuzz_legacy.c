/* SPDX-License-Identifier: Apache-2.0 */
/* i8042, CMOS clock, ACPI registers, GED and debug port: everything that holds a few bytes. */
#include "harness.h"

static void notify(void *opaque, const struct fuzz_record *record)
{
    kvmshim_ged_notify(opaque, record->data[0], NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kvmshim_vm vm = {0};
    kvmshim_device *ged;

    fuzz_begin(&vm);
    FUZZ_CHECK(kvmshim_i8042_create(&vm, NULL, NULL) == 0);
    FUZZ_CHECK(kvmshim_rtc_create(&vm, UINT64_C(3) << 30, UINT64_C(5) << 30, NULL, NULL) == 0);
    FUZZ_CHECK(kvmshim_acpi_pm_create(&vm, 0x600, 0x608, NULL, NULL) == 0);
    FUZZ_CHECK(kvmshim_ged_create(&vm, 0xe7000000, 5, &ged, NULL) == 0);
    FUZZ_CHECK(kvmshim_debug_port_create(&vm, 0x80, NULL, NULL) == 0);
    fuzz_play(&vm, data, size, notify, ged);
    fuzz_end(&vm);
    return 0;
}
