# SPDX-License-Identifier: Apache-2.0
"""What the host cannot do, and how it is told."""

import errno

import pytest

from ipc_protocol.config import CpusConfig, CpuTopology, MemoryConfig
from ipc_protocol.errors import ErrorCode, VmFailure
from kvm_shim import CpuidEntry, Host, ShimError
from vmm_worker.machine import host
from vmm_worker.machine.cpuid import GuestCpuid

GIB = 1 << 30


def refusal(function, *arguments):
    with pytest.raises(VmFailure) as caught:
        function(*arguments)
    return caught.value.error


@pytest.mark.parametrize(
    ("device", "remedy"),
    [("/nonexistent/kvm", "load kvm_intel or kvm_amd"), ("/dev/null", "not a KVM device")],
)
def test_device_that_is_none(device, remedy):
    error = refusal(host.probe, device)
    assert error.code == ErrorCode.KVM_UNAVAILABLE
    assert device in error.message
    assert remedy in error.message
    assert len(error.causes) == 1


def test_remedy_for_permissions_names_the_group():
    ex = ShimError(errno.EACCES, "open /dev/null")
    assert "the group root" in host._remedy("/dev/null", ex)
    assert "the group that owns it" in host._remedy("/nonexistent", ex)


def cpuid(cpus):
    return GuestCpuid([CpuidEntry(0, 0, 0, 0, 0, 0, 0)], cpus)


def limits(max_vcpus=1024, max_vcpu_id=4096):
    return Host(12, 2, max_vcpus, max_vcpu_id, 100)


def test_vcpus_up_to_the_limit():
    cpus = CpusConfig(boot_vcpus=4, max_vcpus=4)
    host.check_vcpus(cpus, limits(max_vcpus=4, max_vcpu_id=4), cpuid(cpus))
    error = refusal(host.check_vcpus, cpus, limits(max_vcpus=3), cpuid(cpus))
    assert error.code == ErrorCode.TOO_MANY_VCPUS
    assert error.fields[0].pointer == "/cpus/boot_vcpus"
    assert "at most 3" in error.message


def test_apic_ids_up_to_the_limit():
    cpus = CpusConfig(boot_vcpus=6, max_vcpus=6, topology=CpuTopology(1, 3, 1, 2))
    host.check_vcpus(cpus, limits(max_vcpu_id=7), cpuid(cpus))
    error = refusal(host.check_vcpus, cpus, limits(max_vcpu_id=6), cpuid(cpus))
    assert error.code == ErrorCode.TOO_MANY_VCPUS
    assert "APIC id 6" in error.message


def test_memory_that_is_there():
    host.check_memory(MemoryConfig(size=2 << 20), 36)
    host.check_memory(MemoryConfig(size=2 << 20, prefault=True), 36)


@pytest.mark.parametrize(
    ("memory", "bits", "reason"),
    [
        (MemoryConfig(size=1 << 20), 46, "at least"),
        (MemoryConfig(size=3 * GIB + 4096), 32, "above the 32 bits"),
        (MemoryConfig(size=1 << 45), 46, "the host has"),
        (MemoryConfig(size=1 << 45, prefault=True), 46, "available"),
        (MemoryConfig(size=1 << 45, hugepages=True), 46, "huge page"),
        (MemoryConfig(size=(2 << 20) + 4096, hugepages=True), 46, "huge page"),
    ],
)
def test_memory_that_cannot_be_had(memory, bits, reason):
    error = refusal(host.check_memory, memory, bits)
    assert error.code == ErrorCode.MEMORY_UNAVAILABLE
    assert error.fields[0].pointer == "/memory/size"
    assert reason in error.message


def test_huge_pages_that_are_not_reserved(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "HUGE_PAGES", str(tmp_path))
    pool = tmp_path / "hugepages-2048kB"
    pool.mkdir()
    for name, count in (("nr", 10), ("free", 8), ("resv", 1)):
        (pool / f"{name}_hugepages").write_text(f"{count}\n")
    info = {"Hugepagesize": 2 << 20}
    host._check_hugepages(MemoryConfig(size=14 << 20), info)
    host._check_hugepages(MemoryConfig(size=14 << 20, hugepage_size=2 << 20), {})
    error = refusal(host._check_hugepages, MemoryConfig(size=16 << 20), info)
    assert "8 huge pages of 2048 KiB, and 7 are free" in error.message
    assert f"echo 11 > {pool}/nr_hugepages" in error.message
    other = MemoryConfig(size=1 << 30, hugepage_size=1 << 30)
    assert "huge pages of 1048576 KiB, which" in refusal(host._check_hugepages, other, info).message
    assert "does not have" in refusal(host._check_hugepages, MemoryConfig(size=1), {}).message


def fail(manager, code):
    with manager:
        raise ShimError(code, "step")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOMEM, ErrorCode.MEMORY_UNAVAILABLE),
        (errno.EINVAL, ErrorCode.MEMORY_UNAVAILABLE),
        (errno.EMFILE, ErrorCode.HOST_RESOURCE),
    ],
)
def test_errors_of_adding_memory(code, expected):
    error = refusal(fail, host.memory_errors(MemoryConfig(size=GIB)), code)
    assert error.code == expected
    assert "step" in error.message


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM])
def test_errors_of_the_host(code):
    error = refusal(fail, host.host_errors(), code)
    assert error.code == ErrorCode.HOST_RESOURCE
    assert "step" in error.message


def test_errors_of_ours_are_left_alone():
    with pytest.raises(ShimError):
        fail(host.host_errors(), errno.EINVAL)


@pytest.mark.parametrize(
    ("code", "says"), [(errno.EMFILE, "LimitNOFILE"), (errno.EINVAL, "the ring is too small")]
)
def test_a_device_that_cannot_be_made_is_named(code, says):
    def make():
        with host.device_errors("_disk0", "/disks/0"):
            raise ShimError(code, "the ring is too small")

    error = refusal(make)
    assert error.code == ErrorCode.HOST_RESOURCE
    assert error.message.startswith("the device _disk0 cannot be made: ")
    assert says in error.message
    assert [each.pointer for each in error.fields] == ["/disks/0"]
    assert "the ring is too small" in error.causes[0]
