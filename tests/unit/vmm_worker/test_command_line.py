# SPDX-License-Identifier: Apache-2.0
"""From the command line to the settings and the VM's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from ipc_protocol.config import CoreScheduling, CpuAffinity, CpuTopology, PayloadConfig, VmConfig
from ipc_protocol.config_devices import SerialMode
from vmm_worker.command_line import read

DEFAULTS = VmConfig(PayloadConfig(kernel="/k"))


def config(*arguments: str) -> VmConfig:
    settings = read(["--kernel", "/k", *arguments])
    assert settings.config is not None
    return settings.config


def test_without_a_vm() -> None:
    settings = read(["--name", "web-1", "--runtime-dir", "/run/x"])
    assert settings.ipc == Path("/run/x/web-1/vmm.ipc")
    assert settings.runtime_dir == Path("/run/x")
    assert settings.config is None
    assert settings.kvm == "/dev/kvm"
    assert settings.log_level == "info"
    assert settings.shutdown_timeout == 10.0
    assert not settings.exit_with_guest


@pytest.mark.parametrize("option", ["--ipc", "--api"])
def test_an_explicit_path_makes_no_directory(option: str) -> None:
    settings = read([option, "/tmp/a.ipc"])
    assert settings.ipc == Path("/tmp/a.ipc")
    assert settings.runtime_dir is None


def test_peers_by_name_and_by_number() -> None:
    assert read([]).peers == set()
    assert read(["--ipc-peer", "root", "--ipc-peer", "54001"]).peers == {0, 54001}


@pytest.mark.parametrize(
    ("peer", "complaint"),
    [("no-such-user", "there is no such user"), ("4294967295", "a user id up to 2147483647")],
)
def test_a_peer_that_cannot_be(
    capsys: pytest.CaptureFixture[str], peer: str, complaint: str
) -> None:
    with pytest.raises(SystemExit):
        read(["--ipc-peer", peer])
    assert f"--ipc-peer: {peer}: " in (error := capsys.readouterr().err)
    assert complaint in error


def test_a_vm_with_the_defaults() -> None:
    assert config() == DEFAULTS


def test_the_payload() -> None:
    payload = config("--initramfs", "/i", "--cmdline", "console=ttyS0 quiet").payload
    assert payload == PayloadConfig(kernel="/k", initramfs="/i", cmdline="console=ttyS0 quiet")


def test_landlock() -> None:
    assert not config().landlock_enable
    changed = config(
        *("--landlock", "--landlock-rules", "path=/a,access=r", "path=/b,access=w"),
        *("--landlock-rules", "access=rw,path=/c"),
    )
    assert changed.landlock_enable
    assert [(rule.path, rule.access) for rule in changed.landlock_rules] == [
        ("/a", "r"),
        ("/b", "w"),
        ("/c", "rw"),
    ]


@pytest.mark.parametrize("text", ["path=/a", "access=r", "path=/a,access=x"])
def test_a_landlock_rule_that_is_none(text: str) -> None:
    with pytest.raises(SystemExit):
        config("--landlock-rules", text)


def test_the_process_ends_with_its_guest_unless_told_otherwise() -> None:
    assert read(["--kernel", "/k"]).exit_with_guest
    assert not read(["--kernel", "/k", "--no-shutdown"]).exit_with_guest


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("boot=2", {"boot_vcpus": 2, "max_vcpus": 2}),
        ("boot=2,max=4", {"boot_vcpus": 2, "max_vcpus": 4}),
        ("max=4", {"max_vcpus": 4}),
        ("boot=1,max_phys_bits=40", {"max_phys_bits": 40}),
        (
            "boot=4,topology=2:2:1:1",
            {"boot_vcpus": 4, "max_vcpus": 4, "topology": CpuTopology(2, 2, 1, 1)},
        ),
        (
            "boot=2,affinity=[0@[1-2],1@[4]],nested=off,core_scheduling=vcpu",
            {
                "boot_vcpus": 2,
                "max_vcpus": 2,
                "affinity": (CpuAffinity(0, (1, 2)), CpuAffinity(1, (4,))),
                "nested": False,
                "core_scheduling": CoreScheduling.VCPU,
            },
        ),
        # Left to the worker, which says so for every client alike.
        ("boot=0", {"boot_vcpus": 0, "max_vcpus": 0}),
    ],
)
def test_cpus(text: str, changes: dict[str, Any]) -> None:
    assert config("--cpus", text).cpus == msgspec.structs.replace(DEFAULTS.cpus, **changes)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("size=64M", {"size": 64 << 20}),
        (
            "size=1G,hugepages=on,prefault=true",
            {"size": 1 << 30, "hugepages": True, "prefault": True},
        ),
        ("thp=off", {"thp": False}),
        (
            "hugepages=on,hugepage_size=1G,reserve=on",
            {"hugepages": True, "hugepage_size": 1 << 30, "reserve": True},
        ),
        ("shared=on,mergeable=off", {"shared": True}),
        ("", {}),
    ],
)
def test_memory(text: str, changes: dict[str, Any]) -> None:
    assert config("--memory", text).memory == msgspec.structs.replace(DEFAULTS.memory, **changes)


@pytest.mark.parametrize(
    ("text", "mode", "file", "socket"),
    [
        ("tty", SerialMode.TTY, None, None),
        ("pty", SerialMode.PTY, None, None),
        ("null", SerialMode.NULL, None, None),
        ("off", SerialMode.OFF, None, None),
        ("file=/tmp/a", SerialMode.FILE, "/tmp/a", None),
        ("socket=/tmp/a", SerialMode.SOCKET, None, "/tmp/a"),
    ],
)
def test_serial(text: str, mode: SerialMode, file: str | None, socket: str | None) -> None:
    serial = config("--serial", text).serial
    assert (serial.mode, serial.file, serial.socket) == (mode, file, socket)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cpus", "boot=1"], "--cpus needs --kernel"),
        (["--memory", "size=1G"], "--memory needs --kernel"),
        (["--initramfs", "/i"], "--initramfs needs --kernel"),
        (["--cmdline", ""], "--cmdline needs --kernel"),
        (["--serial", "tty"], "--serial needs --kernel"),
        (["--disk", "path=/d"], "--disk needs --kernel"),
        (["--net", "tap=t"], "--net needs --kernel"),
        (["--rate-limit-group", "id=a,ops_size=1,ops_refill_time=1"], "--rate-limit-group needs"),
        (["--watchdog"], "--watchdog needs --kernel"),
        (["--kernel", "/k", "--disk", "path"], "argument --disk: 'path' needs a value"),
        (["--name", "../x"], "argument --name: '../x' cannot be the name of a VM"),
        (["--name", "a", "--ipc", "/b"], "argument --ipc/--api: not allowed with argument --name"),
        (["--kernel", "/k", "--cpus", "boots=1"], "argument --cpus: unknown key 'boots'"),
        (["--kernel", "/k", "--memory", "size=lots"], "argument --memory: size=lots: expected"),
        (["--kernel", "/k", "--serial", "tty,pty"], "argument --serial: expected exactly one of"),
        (["--kernel", "/k", "--serial", ""], "argument --serial: expected exactly one of"),
        (["--kernel", "/k", "--serial", "file"], "argument --serial: 'file' needs a value"),
        (["--shutdown-timeout", "-1"], "argument --shutdown-timeout: -1: expected seconds"),
        (["--shutdown-timeout", "nan"], "argument --shutdown-timeout: nan: expected seconds"),
        (["--config", "/c", "--kernel", "/k"], "--config and --kernel are two VMs"),
        (["--config", "/c", "--memory", "size=1G"], "--memory needs --kernel"),
        (["--ker", "/k"], "unrecognized arguments: --ker /k"),
        (["what"], "unrecognized arguments: what"),
    ],
)
def test_what_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read(arguments)
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"velum-vmm: {message}")
    assert errors.count("\n") == 1


def test_devices_that_there_may_be_many_of() -> None:
    given = config(
        *("--disk", "path=/a", "path=/b,readonly=on"),
        *("--net", "tap=one", "--net", "tap=two"),
        *("--disk", "path=/c", "--pmem", "file=/p"),
        *("--rate-limit-group", "id=slow,bw_size=1M,bw_refill_time=100"),
    )
    assert [disk.path for disk in given.disks] == ["/a", "/b", "/c"]
    assert [disk.readonly for disk in given.disks] == [False, True, False]
    assert [net.tap for net in given.net] == ["one", "two"]
    assert [pmem.file for pmem in given.pmem] == ["/p"]
    assert [group.id for group in given.rate_limit_groups] == ["slow"]


def test_devices_that_there_is_one_of() -> None:
    given = config(
        *("--console", "off", "--rng", "src=/dev/hwrng", "--vsock", "cid=3,socket=/v"),
        *("--balloon", "size=1M", "--watchdog", "--pvpanic"),
    )
    assert given.console.mode is SerialMode.OFF
    assert given.rng.src == "/dev/hwrng"
    assert given.vsock is not None
    assert given.balloon is not None
    assert (given.watchdog, given.pvpanic) == (True, True)


def test_the_file_of_a_vm_is_not_read_yet() -> None:
    settings = read(["--config", "/nowhere/vm.json"])
    assert settings.file == Path("/nowhere/vm.json")
    assert settings.config is None
    assert not settings.exit_with_guest


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("velum-vmm v")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read(["--help"])
    assert caught.value.code == 0
    assert "--serial" in capsys.readouterr().out
