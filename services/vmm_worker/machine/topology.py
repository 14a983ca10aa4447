# SPDX-License-Identifier: Apache-2.0
"""How vCPUs are arranged into packages, dies, cores and threads."""

from __future__ import annotations

from dataclasses import dataclass

from ipc_protocol.config import CpusConfig

__all__ = ["Place", "Topology"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one vCPU is; each number counts within the level above it."""

    package: int
    die: int
    core: int
    thread: int


@dataclass(frozen=True, slots=True)
class Topology:
    """The number of units at each level.

    An APIC id is the place written as bit fields, each as wide as its level needs (Intel
    SDM 3A, 9.9), so ids have holes where a level is not a power of two.
    """

    threads: int
    cores: int
    dies: int
    packages: int

    @classmethod
    def of(cls, cpus: CpusConfig) -> Topology:
        """Take what is configured; otherwise every vCPU is a core of one package."""
        if cpus.topology is None:
            return cls(threads=1, cores=cpus.max_vcpus, dies=1, packages=1)
        return cls(
            threads=cpus.topology.threads_per_core,
            cores=cpus.topology.cores_per_die,
            dies=cpus.topology.dies_per_package,
            packages=cpus.topology.packages,
        )

    @property
    def thread_bits(self) -> int:
        """Bits of the APIC id below the core's."""
        return (self.threads - 1).bit_length()

    @property
    def core_bits(self) -> int:
        """Bits of the APIC id below the die's."""
        return self.thread_bits + (self.cores - 1).bit_length()

    @property
    def die_bits(self) -> int:
        """Bits of the APIC id below the package's."""
        return self.core_bits + (self.dies - 1).bit_length()

    @property
    def threads_per_die(self) -> int:
        """Logical processors of one die."""
        return self.threads * self.cores

    @property
    def threads_per_package(self) -> int:
        """Logical processors of one package."""
        return self.threads_per_die * self.dies

    def place(self, index: int) -> Place:
        """Return where vCPU number ``index`` is."""
        rest, thread = divmod(index, self.threads)
        rest, core = divmod(rest, self.cores)
        package, die = divmod(rest, self.dies)
        return Place(package=package, die=die, core=core, thread=thread)

    def apic_id(self, index: int) -> int:
        """Return the x2APIC id of vCPU number ``index``."""
        place = self.place(index)
        return (
            place.package << self.die_bits
            | place.die << self.core_bits
            | place.core << self.thread_bits
            | place.thread
        )
