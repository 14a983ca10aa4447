# SPDX-License-Identifier: Apache-2.0
"""Machines built from configurations, on a real KVM; descriptors are counted for every test."""

import os
import resource
from pathlib import Path

import pytest

import kvm_shim
from ipc_protocol.config import CpusConfig, MemoryConfig, PayloadConfig, VmConfig
from ipc_protocol.config_devices import SerialConfig, SerialMode
from ipc_protocol.errors import ErrorCode, VmFailure
from tests.support.console import Console
from tests.support.guests import build
from vmm_worker.machine import layout
from vmm_worker.machine.acpi import acpi_tables
from vmm_worker.machine.build import build_machine

pytestmark = pytest.mark.kvm

MIB = 1 << 20


def config(guest="hello", *, vcpus=1, memory=2 * MIB, serial=SerialMode.NULL, **payload):
    return VmConfig(
        payload=PayloadConfig(**({"kernel": str(build(guest))} | payload)),
        cpus=CpusConfig(boot_vcpus=vcpus, max_vcpus=vcpus),
        memory=MemoryConfig(size=memory),
        serial=SerialConfig(mode=serial),
    )


@pytest.mark.parametrize("memory", [2 * MIB, 64 * MIB, 6 << 30])
def test_guest_runs(memory):
    machine = build_machine(config(memory=memory))
    try:
        assert machine.memory_size == memory
        console, end = Console.pair()
        with console, end:
            machine.serial.attach(-1, end.fileno())
            machine.vm.resume()
            console.expect(b"hello from the guest")
            machine.serial.detach()
    finally:
        machine.close()


def test_devices_have_their_ids():
    machine = build_machine(config())
    try:
        assert set(machine.devices) == {
            *("__serial", "__i8042", "__rtc", "__acpi_pm", "__ged", "__debug_port", "__pci")
        }
        assert machine.devices["__ged"] is machine.ged
    finally:
        machine.close()


def test_serial_port_that_is_off_is_not_there():
    machine = build_machine(config(serial=SerialMode.OFF))
    try:
        assert machine.serial is None
        assert "__serial" not in machine.devices
        assert machine.vm.bus_read(kvm_shim.Space.PIO, layout.SERIAL_PORT + 7, 1) == 0xFF
    finally:
        machine.close()


def test_what_the_guest_finds_in_memory(tmp_path):
    (tmp_path / "initramfs").write_bytes(b"cpio" * 1025)
    built = config(cmdline="a=b", initramfs=str(tmp_path / "initramfs"), memory=4 * MIB, vcpus=2)
    machine = build_machine(built)
    try:
        read = machine.vm.read_memory
        assert read(layout.CMDLINE, 4) == b"a=b\0"
        assert read(4 * MIB - 8192, 4104) == b"cpio" * 1025 + bytes(4)
        tables = acpi_tables(range(2), serial=True)
        assert read(layout.ACPI_START, len(tables)) == tables
        assert int.from_bytes(read(layout.PVH_MODULES, 8), "little") == 4 * MIB - 8192
        assert machine.vm.registers(0).rbx == layout.PVH_START_INFO
    finally:
        machine.close()


@pytest.mark.parametrize("vcpus", [1, 2, 254])
def test_vcpus(vcpus):
    machine = build_machine(config(vcpus=vcpus))
    try:
        assert machine.vcpus == vcpus
        assert machine.vm.counters(vcpus - 1).exits["io"] == 0
    finally:
        machine.close()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kernel": "/nonexistent"}, ErrorCode.FILE_UNAVAILABLE),
        ({"kernel": "/etc/passwd"}, ErrorCode.INVALID_KERNEL),
        ({"initramfs": "/dev/zero"}, ErrorCode.FILE_UNAVAILABLE),
        ({"cmdline": "x" * 65536}, ErrorCode.CMDLINE_TOO_LONG),
        ({"memory": 1 << 45}, ErrorCode.MEMORY_UNAVAILABLE),
        ({"memory": MIB}, ErrorCode.MEMORY_UNAVAILABLE),
        ({"vcpus": 100_000}, ErrorCode.TOO_MANY_VCPUS),
    ],
)
def test_typed_errors(change, code):
    with pytest.raises(VmFailure) as caught:
        build_machine(config(**change))
    assert caught.value.error.code == code


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_every_lack_of_descriptors_is_told_and_cleaned_up():
    wanted = config(vcpus=2, memory=4 << 30)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.dup(0)
    os.close(first_free)
    before = descriptors()
    failures = 0
    for spare in range(64):
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + spare, hard))
        try:
            machine = build_machine(wanted)
        except VmFailure as ex:
            failures += 1
            error = ex.error
        else:
            machine.close()
            break
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert error.code in (ErrorCode.HOST_RESOURCE, ErrorCode.FILE_UNAVAILABLE)
        assert descriptors() == before
    else:
        pytest.fail("64 descriptors were not enough")
    assert failures > 4


def test_built_machine_is_parked():
    machine = build_machine(config())
    try:
        assert machine.vm.counters(0).first_run_ns == 0
    finally:
        machine.close()
