# SPDX-License-Identifier: Apache-2.0
"""The CPUID filter, on tables such as Intel's and AMD's processors give."""

import struct

import msgspec
import pytest

from ipc_protocol.config import CpusConfig, CpuTopology
from kvm_shim import CpuidEntry
from vmm_worker.machine.cpuid import GuestCpuid

ALL = 0xFFFF_FFFF
INTEL = struct.unpack("<3I", b"GenuntelineI")
AMD = struct.unpack("<3I", b"AuthcAMDenti")
SUB = 1  # the sub-leaf counts


def entry(leaf, index=0, *registers):
    eax, ebx, ecx, edx = registers or (0, 0, 0, 0)
    return CpuidEntry(
        leaf, index, SUB if leaf in (4, 7, 0xB, 0xD, 0x8000_001D) else 0, eax, ebx, ecx, edx
    )


def host(vendor, last=0x1F):
    """Make a table with every feature there could be."""
    return [
        entry(0, 0, last, *vendor),
        entry(1, 0, 0x806F8, ALL, ALL, ALL),
        entry(4, 0, 0xFC1F_C121, 1, 2, 3),  # level 1
        entry(4, 1, 0xFC1F_C143, 1, 2, 3),  # level 2
        entry(4, 2, 0xFC1F_C163, 1, 2, 3),  # level 3
        entry(4, 3),
        entry(6, 0, ALL, ALL, ALL, ALL),
        entry(7, 0, 1, ALL, ALL, ALL),
        entry(7, 1, ALL, ALL, ALL, ALL),
        entry(0xA, 0, ALL, ALL, ALL, ALL),
        entry(0xB, 0, 1, 2, 3, 4),
        entry(0xD, 0, 0x600E7, 1, 2, 0),
        entry(0xD, 1, 15, 1, 2, 0),
        entry(0xD, 17, 64, 1, 2, 0),
        entry(0xD, 18, 8192, 1, 2, 0),
        entry(0x12, 0, ALL, ALL, ALL, ALL),
        entry(0x14, 0, ALL, ALL, ALL, ALL),
        entry(0x1D, 1, ALL, ALL, ALL, ALL),
        entry(0x4000_0000, 0, 0x4000_0001, 1, 2, 3),
        entry(0x4000_0001, 0, 0x0100_7EFB, 0, 0, 0),
        entry(0x8000_0000, 0, 0x8000_0022, 0, 0, 0),
        entry(0x8000_0001, 0, 0, 0, ALL & ~(1 << 1), ALL),
        entry(0x8000_0008, 0, 0x0034_3034, 7, ALL, 0),
        entry(0x8000_000A, 0, ALL, ALL, ALL, ALL),
        entry(0x8000_001D, 0, 0xFFFC121, 1, 2, 3),
        entry(0x8000_001D, 3, 0xFFFC163, 1, 2, 3),
        entry(0x8000_001E, 0, ALL, ALL, ALL, ALL),
        entry(0x8000_001F, 0, ALL, ALL, ALL, ALL),
        entry(0x8000_0022, 0, ALL, ALL, ALL, ALL),
    ]


def cpus(threads=1, cores=1, dies=1, packages=1, phys=46):
    count = threads * cores * dies * packages
    return CpusConfig(
        boot_vcpus=count,
        max_vcpus=count,
        topology=CpuTopology(threads, cores, dies, packages),
        max_phys_bits=phys,
    )


def table(config, vendor=INTEL, index=0, last=0x1F):
    entries = GuestCpuid(host(vendor, last), config).entries(index)
    leaves = {(e.function, e.index): e for e in entries}
    assert len(leaves) == len(entries), "a leaf twice"
    return leaves


def test_features_that_are_off():
    leaves = table(cpus())
    one, seven, ext = leaves[1, 0], leaves[7, 0], leaves[0x8000_0001, 0]
    assert not one.ecx & 1 << 15, "PDCM"
    assert not one.edx & 1 << 21, "DS"
    assert not seven.ebx & (1 << 2 | 1 << 25), "SGX, PT"
    assert not seven.edx & (1 << 22 | 1 << 24 | 1 << 25), "AMX"
    assert not ext.ecx & (1 << 23 | 1 << 24 | 1 << 28), "performance counters"
    assert leaves[6, 0][3:] == (4, 0, 0, 0)
    assert leaves[0xD, 0].eax == 0xE7
    for absent in (0xA, 0x12, 0x14, 0x1D, 0x8000_001F, 0x8000_0022):
        assert (absent, 0) not in leaves
    assert (0xD, 17) not in leaves
    assert (0xD, 18) not in leaves


@pytest.mark.parametrize(("vendor", "leaf", "bit"), [(INTEL, 1, 5), (AMD, 0x8000_0001, 2)])
def test_a_guest_has_guests_of_its_own_unless_it_is_not_to(vendor, leaf, bit):
    nested = table(cpus(), vendor)
    assert nested[leaf, 0].ecx & 1 << bit
    assert (0x8000_000A, 0) in nested
    flat = table(msgspec.structs.replace(cpus(), nested=False), vendor)
    assert not flat[leaf, 0].ecx & 1 << bit
    assert flat[leaf, 0].ecx == nested[leaf, 0].ecx & ~(1 << bit)
    assert set(nested) - set(flat) == {(0x8000_000A, 0)}
    # A KVM that nests nothing does not say so either.
    assert not GuestCpuid([entry(1)], cpus()).entries(0)[0].ecx & 1 << 5


def test_features_that_are_on():
    leaves = table(cpus())
    one = leaves[1, 0]
    assert one.ecx & 1 << 31, "hypervisor"
    assert one.ecx & 1 << 24, "TSC deadline"
    assert one.ecx & 1 << 21, "x2APIC"
    assert leaves[7, 0].ebx & 1 << 5, "AVX2"
    assert leaves[0x4000_0000, 0] == host(INTEL)[18], "KVM's own"
    assert leaves[0x4000_0001, 0] == host(INTEL)[19], "KVM's own"


@pytest.mark.parametrize(("wanted", "bits"), [(46, 46), (52, 52), (36, 36)])
def test_physical_bits_are_the_smaller_of_both(wanted, bits):
    config = cpus(phys=wanted)
    assert GuestCpuid(host(INTEL), config).physical_bits == bits
    assert table(config)[0x8000_0008, 0].eax == 0x3000 | bits
    assert GuestCpuid([entry(0)], config).physical_bits == 36


@pytest.mark.parametrize("vendor", [INTEL, AMD])
def test_one_vcpu_has_no_siblings(vendor):
    leaves = table(cpus(), vendor)
    assert not leaves[1, 0].edx & 1 << 28, "HTT"
    assert leaves[1, 0].ebx >> 16 == 1
    assert not leaves[0x8000_0001, 0].ecx & 1 << 1 or vendor is INTEL, "CmpLegacy"
    assert [leaves[0xB, i][3:6] for i in range(3)] == [(0, 1, 0x100), (0, 1, 0x201), (0, 0, 2)]


@pytest.mark.parametrize("vendor", [INTEL, AMD])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 127, 128, 254])
def test_apic_id_is_the_same_everywhere(vendor, count):
    cpuid = GuestCpuid(host(vendor), CpusConfig(boot_vcpus=count, max_vcpus=count))
    for index in range(count):
        for e in cpuid.entries(index):
            if e.function == 1:
                assert e.ebx >> 24 == index
            if e.function in (0xB, 0x1F):
                assert e.edx == index
            if e.function == 0x8000_001E:
                assert e.eax == index
    assert cpuid.apic_id(count - 1) == count - 1


def test_extended_topology_leaves():
    leaves = table(cpus(2, 3, 2, 2), index=23)
    assert leaves[0xB, 0][3:] == (1, 2, 0x100, 0b11101)
    assert leaves[0xB, 1][3:] == (4, 12, 0x201, 0b11101)
    assert leaves[0xB, 2][3:] == (0, 0, 2, 0b11101)
    assert leaves[0x1F, 0][3:] == (1, 2, 0x100, 0b11101)
    assert leaves[0x1F, 1][3:] == (3, 6, 0x201, 0b11101)
    assert leaves[0x1F, 2][3:] == (4, 12, 0x502, 0b11101)
    assert leaves[0x1F, 3][3:] == (0, 0, 3, 0b11101)
    assert all(leaves[0xB, i].flags == 1 for i in range(3))


@pytest.mark.parametrize(
    ("last", "dies", "expected"), [(0xA, 1, 0xB), (0xD, 1, 0xD), (0xD, 2, 0x1F), (0x20, 2, 0x20)]
)
def test_last_leaf_does_not_hide_the_topology(last, dies, expected):
    leaves = table(cpus(dies=dies), last=last)
    assert leaves[0, 0].eax == expected
    assert ((0x1F, 0) in leaves) == (expected >= 0x1F)


def test_intel_caches():
    leaves = table(cpus(2, 3, 1, 2))
    for index, sharing in ((0, 1), (1, 1), (2, 7)):
        eax = leaves[4, index].eax
        assert eax >> 14 & 0xFFF == sharing
        assert eax >> 26 == 3
        assert eax & 0x3FFF == host(INTEL)[2 + index].eax & 0x3FFF
    assert leaves[4, 3].eax == 0
    assert leaves[1, 0].ebx >> 16 & 0xFF == 8
    assert leaves[1, 0].edx & 1 << 28


def test_amd_leaves():
    leaves = table(cpus(2, 3, 2, 2), AMD, index=23)
    assert leaves[0x8000_0001, 0].ecx & 1 << 1
    assert leaves[0x8000_0008, 0].ecx == 4 << 12 | 11
    assert leaves[0x8000_001D, 0].eax >> 14 & 0xFFF == 1
    assert leaves[0x8000_001D, 3].eax >> 14 & 0xFFF == 5
    assert leaves[0x8000_001E, 0][3:] == (0b11101, 1 << 8 | 5, 1 << 8 | 3, 0)


def test_large_packages_do_not_overflow_their_fields():
    leaves = table(cpus(cores=254), index=253)
    assert leaves[1, 0].ebx >> 16 == 253 << 8 | 255
    assert leaves[4, 0].eax >> 26 == 63
    assert leaves[0xB, 1][3:6] == (8, 254, 0x201)


def test_table_without_anything():
    leaves = table(cpus())
    bare = GuestCpuid([], cpus()).entries(0)
    assert {e.function for e in bare} == {0xB}
    assert leaves
