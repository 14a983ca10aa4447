# SPDX-License-Identifier: Apache-2.0
"""What this host can do, checked before anything is built; its errors, told with the way out."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipc_protocol.config import CpusConfig, MemoryConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmFailure
from kvm_shim import CpuidEntry, Host, ShimError, probe_host, supported_cpuid
from vmm_worker.machine import layout
from vmm_worker.machine.cpuid import GuestCpuid
from vmm_worker.machine.memory import ram_regions

__all__ = [
    "HUGE_PAGES",
    "MEMINFO",
    "check_memory",
    "check_vcpus",
    "device_errors",
    "host_errors",
    "memory_errors",
    "probe",
]

MEMINFO = "/proc/meminfo"
HUGE_PAGES = "/sys/kernel/mm/hugepages"
MEMORY_FIELD = "/memory/size"
VCPUS_FIELD = "/cpus/boot_vcpus"
MIN_MEMORY = layout.KERNEL + layout.PAGE
NO_MORE = {
    errno.EMFILE: "raise the limit on open files (LimitNOFILE=, ulimit -n)",
    errno.ENFILE: "raise the host's limit on open files (fs.file-max)",
    errno.EAGAIN: "raise the limit on tasks (TasksMax=, ulimit -u)",
    errno.ENOMEM: "free memory on the host",
    errno.ENOSPC: "free memory on the host",
}


def probe(device: str) -> tuple[Host, list[CpuidEntry]]:
    """Ask KVM for its limits and the CPUID it supports.

    Raises:
        VmFailure: If KVM cannot be used, with the reason and the remedy.
    """
    try:
        return probe_host(device), supported_cpuid(device)
    except ShimError as ex:
        if ex.errno in (errno.EMFILE, errno.ENFILE):
            raise _no_more(ex) from ex
        raise VmFailure(
            ErrorCode.KVM_UNAVAILABLE,
            f"KVM cannot be used through {device}: {_remedy(device, ex)}",
            causes=(str(ex),),
        ) from ex


def _remedy(device: str, ex: ShimError) -> str:
    match ex.errno:
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return (
                "the device is not there; load kvm_intel or kvm_amd, and enable "
                "virtualization in the firmware (or nested virtualization in the hypervisor)"
            )
        case errno.EACCES | errno.EPERM:
            return f"permission denied; the worker's user has to be in {_group_of(device)}"
        case _:
            return ex.context


def _group_of(device: str) -> str:
    import grp  # noqa: PLC0415 - only ever needed for this message

    try:
        gid = Path(device).stat().st_gid
    except OSError:
        return "the group that owns it"
    try:
        return f"the group {grp.getgrgid(gid).gr_name}"
    except KeyError:
        return f"the group with the id {gid}"


def check_vcpus(cpus: CpusConfig, host: Host, cpuid: GuestCpuid) -> None:
    """Refuse more vCPUs, or higher APIC ids, than KVM has here.

    Raises:
        VmFailure: If there are too many.
    """
    count = cpus.boot_vcpus
    highest = max(cpuid.apic_id(index) for index in range(count))
    if count > host.max_vcpus:
        reason = f"{count} vCPUs, and KVM on this host has at most {host.max_vcpus}"
    elif highest >= host.max_vcpu_id:
        reason = (
            f"the topology gives vCPU {count - 1} the APIC id {highest}, and KVM on this "
            f"host takes ids below {host.max_vcpu_id}"
        )
    else:
        return
    raise VmFailure(
        ErrorCode.TOO_MANY_VCPUS,
        f"too many vCPUs: {reason}",
        fields=(FieldError(VCPUS_FIELD, reason),),
    )


def check_memory(memory: MemoryConfig, physical_bits: int) -> None:
    """Refuse RAM that the host cannot have or the guest cannot address.

    RAM is filled page by page while the guest runs, so what is missing would show as
    a guest killed later; better to say it now.

    Raises:
        VmFailure: If there is not that much.
    """
    last = ram_regions(memory.size)[-1]
    if memory.size < MIN_MEMORY:
        raise memory_failure(f"{memory.size} bytes; the machine needs {MIN_MEMORY} at least")
    if last.start + last.size > 1 << physical_bits:
        raise memory_failure(
            f"{memory.size} bytes; they end above the {physical_bits} bits of the guest's "
            "physical addresses (cpus.max_phys_bits, or the host's own)"
        )
    info = _meminfo()
    if memory.hugepages:
        _check_hugepages(memory, info)
        return
    if memory.prefault:
        have, of = info.get("MemAvailable", 0) + info.get("SwapFree", 0), "available"
    else:
        have, of = info.get("MemTotal", 0) + info.get("SwapTotal", 0), "in all"
    if info and memory.size > have:
        raise memory_failure(f"{memory.size} bytes, and the host has {have} {of}, swap included")


def _check_hugepages(memory: MemoryConfig, info: dict[str, int]) -> None:
    page = memory.hugepage_size or info.get("Hugepagesize", 0)
    pool = Path(HUGE_PAGES, f"hugepages-{page >> 10}kB")
    try:
        free, reserved, total = (
            int((pool / name).read_text(encoding="ascii"))
            for name in ("free_hugepages", "resv_hugepages", "nr_hugepages")
        )
    except (OSError, ValueError):
        what = f"huge pages of {page >> 10} KiB" if page else "huge pages"
        raise memory_failure(f"{what}, which this host's kernel does not have") from None
    if memory.size % page:
        raise memory_failure(f"{memory.size} bytes, which is no multiple of the huge page's {page}")
    needed, free = memory.size // page, free - reserved
    if needed > free:
        raise memory_failure(
            f"{needed} huge pages of {page >> 10} KiB, and {free} are free; reserve them with "
            f"'echo {total + needed - free} > {pool}/nr_hugepages'"
        )


def _meminfo() -> dict[str, int]:
    """Read /proc/meminfo; amounts in bytes, counts as they are."""
    info = {}
    try:
        for line in Path(MEMINFO).read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(":")
            number, _, unit = value.strip().partition(" ")
            info[key] = int(number) * (1024 if unit == "kB" else 1)
    except (OSError, ValueError):
        return {}
    return info


def memory_failure(reason: str, *causes: str) -> VmFailure:
    """Return the error for memory that cannot be had."""
    return VmFailure(
        ErrorCode.MEMORY_UNAVAILABLE,
        f"the guest's memory cannot be had: {reason}",
        causes=causes,
        fields=(FieldError(MEMORY_FIELD, reason),),
    )


def _no_more(ex: OSError) -> VmFailure:
    return VmFailure(
        ErrorCode.HOST_RESOURCE,
        f"the host has run out of something: {ex.strerror}; {NO_MORE[ex.errno or 0]}",
        causes=(str(ex),),
    )


@contextmanager
def memory_errors(memory: MemoryConfig) -> Iterator[None]:
    """Tell the shim's errors while RAM is added as errors of the memory configuration."""
    try:
        yield
    except ShimError as ex:
        if ex.errno in (errno.EMFILE, errno.ENFILE):
            raise _no_more(ex) from ex
        kind = " of huge pages" if memory.hugepages else ""
        raise memory_failure(f"{memory.size} bytes{kind}; {ex.context}", str(ex)) from ex


@contextmanager
def host_errors() -> Iterator[None]:
    """Tell the errors that the host is to blame for as such; leave the others."""
    try:
        yield
    except ShimError as ex:
        if ex.errno in NO_MORE:
            raise _no_more(ex) from ex
        raise
    except OSError as ex:
        if ex.errno in (errno.EMFILE, errno.ENFILE):
            raise _no_more(ex) from ex
        raise


@contextmanager
def device_errors(device_id: str, pointer: str) -> Iterator[None]:
    """Tell the shim's errors while a device is made as errors of its configuration."""
    try:
        yield
    except ShimError as ex:
        reason = NO_MORE.get(ex.errno or 0, ex.context)
        raise VmFailure(
            ErrorCode.HOST_RESOURCE,
            f"the device {device_id} cannot be made: {reason}",
            causes=(str(ex),),
            fields=(FieldError(pointer, f"cannot be made: {reason}"),),
        ) from ex
