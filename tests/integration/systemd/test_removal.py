# SPDX-License-Identifier: Apache-2.0
"""The package goes: with all its processes, and with data only when that is said."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.support.systemd import CONFIGS, DISKS, SOCKET, UnitVm, output, processes, show

pytestmark = pytest.mark.systemd


def apt(*words: str, **environment: str) -> str:
    """Run apt-get, or dpkg where there is no repository, without a terminal."""
    settings = [f"{name}={value}" for name, value in environment.items()]
    return output("env", "DEBIAN_FRONTEND=noninteractive", *settings, "apt-get", "-q", "-y", *words)


def test_a_removal_ends_all_processes_and_keeps_what_is_the_operator_s(
    vms: Callable[..., UnitVm],
) -> None:
    vm = vms("last", guest="button")
    vm.start()
    vm.wait_until(lambda: "button ready" in vm.said(), "the guest waits for its button")
    precious = vm.folder / "disk.raw"
    precious.write_bytes(b"precious")
    apt("remove", "velum")
    assert processes() == []
    assert show("velum-api.socket", "LoadState") == "not-found"
    assert show(vm.unit, "ActiveState") in ("inactive", "failed")
    assert not SOCKET.exists()
    assert precious.read_bytes() == b"precious"
    assert vm.file.exists()

    said = apt("purge", "velum")
    assert "these stay" in said
    assert precious.exists()
    assert vm.file.exists()

    apt("install", os.environ["VELUM_PACKAGE"])
    vm.start()
    apt("purge", "velum", VELUM_PURGE_DATA="yes")
    assert processes() == []
    assert not CONFIGS.exists()
    assert not DISKS.exists()
