# SPDX-License-Identifier: Apache-2.0
"""The guest's CPUID: what KVM supports, less what the machine does not have.

Most leaves are the same for every vCPU and are filtered once; only those that carry the
APIC id are patched for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ipc_protocol.config import CpusConfig
from kvm_shim import CpuidEntry
from vmm_worker.machine.topology import Topology

__all__ = ["GuestCpuid"]

SIGNIFICANT_INDEX = 1
"""``KVM_CPUID_FLAG_SIGNIFCANT_INDEX``: the entry answers for its sub-leaf alone."""
TOPOLOGY_LEAVES = (0xB, 0x1F)
AMD_VENDORS = (b"AuthenticAMD", b"HygonGenuine")
DEFAULT_PHYSICAL_BITS = 36

# Leaves left out altogether, which the guest reads as zeros: the PMU (0xa, 0x23,
# 0x80000022), SGX, processor trace, AMX, and AMD's IBS and memory encryption.
ABSENT_LEAVES = frozenset({0xA, 0x12, 0x14, 0x1D, 0x1E, 0x23}) | {
    *(0x8000_001B, 0x8000_001F, 0x8000_0022, 0x8000_0026)
}
SVM_LEAF = 0x8000_000A
AMX_STATES = (17, 18)


def bits(*numbers: int) -> int:
    """Return the mask of the bits."""
    return sum(1 << number for number in numbers)


LEAF1_ECX_SET = bits(24, 31)  # TSC deadline (the in-kernel LAPIC has it), hypervisor
# DTES64, DS-CPL, SMX, EIST, TM2 and PDCM; DS, ACPI, TM and PBE.
LEAF1_ECX_CLEAR = bits(2, 4, 6, 7, 8, 15)
LEAF1_ECX_VMX = bits(5)
LEAF1_EDX_CLEAR = bits(21, 22, 29, 31)
LEAF1_EDX_HTT = bits(28)
LEAF6_EAX_KEEP = bits(2)  # ARAT; no turbo, no energy bias hint
# SGX and PT; WAITPKG and SGX_LC; AMX BF16, TILE and INT8. Sub-leaf 1: AMX FP16; COMPLEX.
LEAF7_EBX_CLEAR = bits(2, 25)
LEAF7_ECX_CLEAR = bits(5, 30)
LEAF7_EDX_CLEAR = bits(22, 24, 25)
LEAF7_1_EAX_CLEAR = bits(21)
LEAF7_1_EDX_CLEAR = bits(8)
# IBS, SKINIT, WDT, LWP, NODEID_MSR and the three groups of performance counters.
EXT1_ECX_CLEAR = bits(10, 12, 13, 15, 19, 23, 24, 28)
EXT1_ECX_CMP_LEGACY = bits(1)
EXT1_ECX_SVM = bits(2)


class GuestCpuid:
    """The CPUID tables of one VM.

    Args:
        supported: What ``KVM_GET_SUPPORTED_CPUID`` answers.
        cpus: The configured vCPUs.
    """

    def __init__(self, supported: Iterable[CpuidEntry], cpus: CpusConfig) -> None:
        self.topology = Topology.of(cpus)
        self._nested = cpus.nested
        absent = ABSENT_LEAVES if cpus.nested else ABSENT_LEAVES | {SVM_LEAF}
        host = [entry for entry in supported if entry.function not in absent]
        leaves = {(entry.function, entry.index): entry for entry in host}
        leaf0 = leaves.get((0, 0), CpuidEntry(0, 0, 0, 0, 0, 0, 0))
        vendor = b"".join(r.to_bytes(4, "little") for r in (leaf0.ebx, leaf0.edx, leaf0.ecx))
        self._amd = vendor in AMD_VENDORS
        self._has_dies = self.topology.dies > 1 or leaf0.eax >= TOPOLOGY_LEAVES[1]
        self.physical_bits = min(_host_physical_bits(leaves.values()), cpus.max_phys_bits)
        self._common = [
            self._filter(entry)
            for entry in host
            if entry.function not in TOPOLOGY_LEAVES
            and not (entry.function == 0xD and entry.index in AMX_STATES)  # noqa: PLR2004 - the leaf
        ]
        self._common += self._topology_leaves()
        self._personal = self._find_personal()

    def entries(self, index: int) -> list[CpuidEntry]:
        """Return the table of vCPU number ``index``."""
        table = list(self._common)
        for position, patch in self._personal:
            table[position] = patch(table[position], index)
        return table

    def apic_id(self, index: int) -> int:
        """Return the APIC id of vCPU number ``index``."""
        return self.topology.apic_id(index)

    def _filter(self, entry: CpuidEntry) -> CpuidEntry:
        change = {
            0x0: self._vendor,
            0x1: self._features,
            0x4: self._intel_cache,
            0x6: _power,
            0x7: _extended_features,
            0xD: _states,
            0x8000_0001: self._amd_features,
            0x8000_0008: self._sizes,
            0x8000_001D: self._amd_cache,
        }.get(entry.function)
        return change(entry) if change else entry

    def _vendor(self, entry: CpuidEntry) -> CpuidEntry:
        """Leaf 0: the last basic leaf, which must not hide the topology."""
        last = TOPOLOGY_LEAVES[1] if self._has_dies else TOPOLOGY_LEAVES[0]
        return entry._replace(eax=max(entry.eax, last))

    def _features(self, entry: CpuidEntry) -> CpuidEntry:
        """Leaf 1: features and, in EBX[23:16], the ids a package has room for."""
        edx = entry.edx & ~(LEAF1_EDX_CLEAR | LEAF1_EDX_HTT)
        if self.topology.threads_per_package > 1:
            edx |= LEAF1_EDX_HTT
        logical = min(1 << self.topology.die_bits, 0xFF)
        return entry._replace(
            ebx=entry.ebx & 0xFFFF | logical << 16,
            ecx=self._nesting(entry.ecx, LEAF1_ECX_VMX) & ~LEAF1_ECX_CLEAR | LEAF1_ECX_SET,
            edx=edx,
        )

    def _nesting(self, ecx: int, bit: int) -> int:
        """Leave out the bit of VMX or SVM from a guest that is to have none."""
        return ecx if self._nested else ecx & ~bit

    def _shared(self, eax: int, *, exact: bool) -> int:
        """Set EAX[25:14], the threads that share a cache: those of a core, or of a die."""
        level = eax >> 5 & 7
        of_core = level <= 2  # noqa: PLR2004 - first and second level caches
        width = self.topology.thread_bits if of_core else self.topology.core_bits
        count = self.topology.threads if of_core else self.topology.threads_per_die
        sharing = min(count if exact else 1 << width, 1 << 12) - 1
        return eax & ~(0xFFF << 14) | sharing << 14

    def _intel_cache(self, entry: CpuidEntry) -> CpuidEntry:
        """Leaf 4; EAX[31:26] counts the core ids of a package. The list ends with type 0."""
        if entry.eax & 0x1F == 0:
            return entry
        cores = min(1 << (self.topology.die_bits - self.topology.thread_bits), 64) - 1
        eax = self._shared(entry.eax, exact=False) & ~(0x3F << 26)
        return entry._replace(eax=eax | cores << 26)

    def _amd_cache(self, entry: CpuidEntry) -> CpuidEntry:
        return entry._replace(eax=self._shared(entry.eax, exact=True))

    def _amd_features(self, entry: CpuidEntry) -> CpuidEntry:
        ecx = self._nesting(entry.ecx, EXT1_ECX_SVM) & ~EXT1_ECX_CLEAR
        if self._amd:
            ecx &= ~EXT1_ECX_CMP_LEGACY
            if self.topology.threads_per_package > 1:
                ecx |= EXT1_ECX_CMP_LEGACY
        return entry._replace(ecx=ecx)

    def _sizes(self, entry: CpuidEntry) -> CpuidEntry:
        """Leaf 0x80000008: address widths; on AMD also the size of a package."""
        eax = entry.eax & 0xFF00 | self.physical_bits
        if not self._amd:
            return entry._replace(eax=eax)
        threads = min(self.topology.threads_per_package, 0x100) - 1
        return entry._replace(eax=eax, ecx=self.topology.die_bits << 12 | threads)

    def _topology_leaves(self) -> list[CpuidEntry]:
        """Leaves 0xb and 0x1f (Intel SDM 2A): one sub-leaf for each level, then an end."""
        top = self.topology
        threads = (1, top.thread_bits, top.threads)
        cores = (2, top.core_bits, top.threads_per_die)
        package = (2, top.die_bits, top.threads_per_package)
        dies = (5, top.die_bits, top.threads_per_package)
        levels = {0xB: (threads, package, (0, 0, 0))}
        if self._has_dies:
            levels[0x1F] = (threads, cores, dies, (0, 0, 0))  # type: ignore[assignment]
        return [
            CpuidEntry(leaf, index, SIGNIFICANT_INDEX, shift, count, kind << 8 | index, 0)
            for leaf, rows in levels.items()
            for index, (kind, shift, count) in enumerate(rows)
        ]

    def _find_personal(self) -> list[tuple[int, Callable[[CpuidEntry, int], CpuidEntry]]]:
        patches: dict[int, Callable[[CpuidEntry, int], CpuidEntry]] = {
            1: self._initial_apic_id,
            **dict.fromkeys(TOPOLOGY_LEAVES, self._x2apic_id),
            0x8000_001E: self._amd_place,
        }
        return [
            (position, patches[entry.function])
            for position, entry in enumerate(self._common)
            if entry.function in patches
        ]

    def _initial_apic_id(self, entry: CpuidEntry, index: int) -> CpuidEntry:
        return entry._replace(ebx=entry.ebx & 0xFF_FFFF | (self.apic_id(index) & 0xFF) << 24)

    def _x2apic_id(self, entry: CpuidEntry, index: int) -> CpuidEntry:
        return entry._replace(edx=self.apic_id(index))

    def _amd_place(self, entry: CpuidEntry, index: int) -> CpuidEntry:
        """Leaf 0x8000001e (AMD APM 3, E.4.15): APIC id, core and node."""
        top, place = self.topology, self.topology.place(index)
        core = place.die * top.cores + place.core
        node = place.package * top.dies + place.die
        return entry._replace(
            eax=self.apic_id(index),
            ebx=(top.threads - 1 & 0xFF) << 8 | core & 0xFF,
            ecx=(top.dies - 1 & 7) << 8 | node & 0xFF,
            edx=0,
        )


def _power(entry: CpuidEntry) -> CpuidEntry:
    return entry._replace(eax=entry.eax & LEAF6_EAX_KEEP, ebx=0, ecx=0, edx=0)


def _states(entry: CpuidEntry) -> CpuidEntry:
    if entry.index != 0:
        return entry
    return entry._replace(eax=entry.eax & ~bits(*AMX_STATES))


def _extended_features(entry: CpuidEntry) -> CpuidEntry:
    match entry.index:
        case 0:
            return entry._replace(
                ebx=entry.ebx & ~LEAF7_EBX_CLEAR,
                ecx=entry.ecx & ~LEAF7_ECX_CLEAR,
                edx=entry.edx & ~LEAF7_EDX_CLEAR,
            )
        case 1:
            return entry._replace(
                eax=entry.eax & ~LEAF7_1_EAX_CLEAR, edx=entry.edx & ~LEAF7_1_EDX_CLEAR
            )
        case _:
            return entry


def _host_physical_bits(entries: Iterable[CpuidEntry]) -> int:
    for entry in entries:
        if entry.function == 0x8000_0008:  # noqa: PLR2004 - the leaf
            return entry.eax & 0xFF
    return DEFAULT_PHYSICAL_BITS
