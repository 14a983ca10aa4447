# SPDX-License-Identifier: Apache-2.0
"""What a host can lack, one thing at a time: who needs it is told what to do, all others go on."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.systemd import (
    API,
    IMAGES,
    Client,
    Journal,
    UnitVm,
    output,
    systemctl,
    undisturbed,
)
from tests.testbed.host import inside_testbed

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.skipif(not inside_testbed(), reason="does to a machine what nobody else's may be"),
]

KVM = Path("/dev/kvm")
DAYS = 2 * 86400


@contextmanager
def permissions(path: Path, mode: int) -> Iterator[None]:
    """Have other permissions on a file."""
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        yield
    finally:
        path.chmod(before)


@contextmanager
def mounted(place: Path, size: str) -> Iterator[None]:
    """Have a small file system at a place."""
    place.mkdir(parents=True)
    output("mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", place)
    try:
        yield
    finally:
        output("umount", "--lazy", place)


@contextmanager
def full(place: Path) -> Iterator[None]:
    """Have no room left in a file system of RAM, for files or in them."""
    usage = os.statvfs(place)
    used = usage.f_files - usage.f_ffree
    blocks = usage.f_blocks - usage.f_bfree
    output("mount", "-o", f"remount,nr_inodes={used},size={blocks * usage.f_frsize}", place)
    try:
        yield
    finally:
        whole = f"remount,nr_inodes={usage.f_files},size={usage.f_blocks * usage.f_frsize}"
        output("mount", "-o", whole, place)


def test_out_of_memory_in_one_cgroup(vms: Callable[..., UnitVm]) -> None:
    other = vms("other", guest="count").running()
    vm = vms("greedy")
    vm.start()
    systemctl("set-property", "--runtime", vm.unit, "MemoryMax=96M")
    vm.guest, vm.memory = "count", 256
    config = vm.config()
    config["memory"]["prefault"] = True
    with undisturbed(other):
        assert vm.request("PUT", "vm.create", config).status == 204
        answer = vm.request("PUT", "vm.boot")
        assert (answer.status, answer.json["code"]) == (503, "vmm_unavailable")
        vm.journal.wait_for("oom-kill")
        vm.journal.wait_for("host.memory_max")
        vm.wait_until(lambda: vm.request("GET", "vmm.ping").status == 200, "the worker is back")


def test_a_full_disk(vms: Callable[..., UnitVm]) -> None:
    other = vms("other", guest="count").running()
    vm = vms("cramped")
    place = Path("/var/lib/private/velum/cramped/disk")
    with mounted(place, "64k"):
        image = place / "disk.raw"
        with image.open("wb") as file:
            file.truncate(2 << 20)
        image.chmod(0o666)
        vm.start()
        vm.guest, vm.cmdline = "disk", "rounds=200"
        vm.parts = {"disks": [{"path": str(vm.folder / "disk/disk.raw")}]}
        with undisturbed(other):
            assert vm.request("PUT", "vm.create", vm.config()).status == 204
            assert vm.request("PUT", "vm.boot").status == 204
            vm.journal.wait_for(r"_disk0: write at byte \d+ failed: No space left.*free space")
            assert vm.request("GET", "vmm.ping").status == 200
        vm.switch_off()
        systemctl("stop", vm.unit)


def test_a_full_run(vms: Callable[..., UnitVm]) -> None:
    other = vms("other", guest="count").running()
    vm = vms("late", guest="count")
    with undisturbed(other), Client("other", keep=False) as client:
        with full(Path("/run")):
            vm.start_in_vain()
            vm.journal.wait_for("No space left on device")
            client.expect_answers()
        systemctl("reset-failed", vm.unit, check=False)
        vm.running()
    assert (client.failures, set(client.answers)) == ([], {200})


def test_no_kvm(vms: Callable[..., UnitVm]) -> None:
    other = vms("other", guest="count").running()
    vm = vms("bare", guest="count")
    away = KVM.with_name("kvm-away")
    with undisturbed(other):
        KVM.rename(away)
        try:
            vm.start_in_vain()
            vm.journal.wait_for(r"/dev/kvm: the device is not there; load kvm_intel or kvm_amd")
        finally:
            away.rename(KVM)
        systemctl("stop", vm.unit)
        systemctl("reset-failed", vm.unit, check=False)
        vm.running()


def test_wrong_permissions(vms: Callable[..., UnitVm]) -> None:
    vm = vms("barred", guest="count")
    with permissions(KVM, 0o600):
        vm.start_in_vain()
        vm.journal.wait_for(r"/dev/kvm: permission denied; the worker's user has to be in")
    systemctl("stop", vm.unit)
    image = IMAGES / "barred.elf"
    shutil.copyfile(IMAGES / "count.elf", image)
    try:
        image.chmod(0o600)
        file = vm.file.read_text()
        vm.file.write_text(file.replace("count.elf", "barred.elf"))
        systemctl("reset-failed", vm.unit, check=False)
        vm.start_in_vain()
        vm.journal.wait_for(rf"{image}.*Permission denied")
    finally:
        image.unlink()
    systemctl("stop", vm.unit)
    vm.file.write_text(file)
    systemctl("reset-failed", vm.unit, check=False)
    vm.running()


def test_the_clock_jumps(vms: Callable[..., UnitVm]) -> None:
    vm = vms("timeless", guest="count").running()
    api = Journal(API)
    with undisturbed(vm), Client("timeless", keep=True) as client:
        for seconds in (DAYS, -2 * DAYS, DAYS):
            time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)
            client.expect_answers()
            vm.expect_at_work()
    assert (client.failures, client.retries, set(client.answers)) == ([], 0, {200})
    for journal in (vm.journal, api):
        assert "timeout" not in journal.text().lower()
