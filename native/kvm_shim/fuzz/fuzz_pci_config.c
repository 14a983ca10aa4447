/* SPDX-License-Identifier: Apache-2.0 */
/* Both ways to the PCI configuration space, with a function that has BARs beside the bridge. */
#include <string.h>

#include "harness.h"
#include "pci.h"

enum { DEVFN = 3 << 3, BAR0 = 0x10, BAR2 = 0x18 };

struct probe {
    struct pci_function function;
    struct pci_config initial;
};

/* What the mask protects never changes, whatever is written and by which way. */
static void check(struct pci_function *function, uint32_t reg, uint32_t size)
{
    const struct probe *probe = (const struct probe *)function;

    FUZZ_CHECK(size && reg / 4 == (reg + size - 1) / 4 && reg + size <= PCI_CONFIG_SIZE);
    for (uint32_t i = 0; i < PCI_CONFIG_SIZE; i++)
        FUZZ_CHECK(((function->config.bytes[i] ^ probe->initial.bytes[i]) &
                    ~function->config.writable[i]) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct pci_identity identity = {0x1af4, 0x1042, 0x018000, 1};
    struct probe probe = {.function.written = check};
    kvmshim_vm vm = {0};
    kvmshim_device *pci;

    fuzz_begin(&vm);
    pci_config_init(&probe.function.config, &identity);
    pci_config_set(&probe.function.config, BAR0, 4, 0, 0xfff80000);
    pci_config_set(&probe.function.config, BAR2, 4, 0xc, 0xffff0000); /* 64-bit, prefetchable */
    pci_config_set(&probe.function.config, BAR2 + 4, 4, 0, 0xffffffff);
    probe.initial = probe.function.config;

    FUZZ_CHECK(kvmshim_pci_create(&vm, 0xe8000000, &pci, NULL) == 0);
    FUZZ_CHECK(pci_attach(pci, DEVFN, &probe.function, NULL) == 0);
    FUZZ_CHECK(pci_attach(pci, DEVFN, &probe.function, NULL) < 0);
    fuzz_play(&vm, data, size, NULL, NULL);
    fuzz_end(&vm);
    return 0;
}
