# SPDX-License-Identifier: Apache-2.0
"""The package goes, with all its processes and with nobody's data."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.systemd import SOCKET, UnitVm, output, processes, show

pytestmark = pytest.mark.systemd


def apt(*words: str) -> str:
    """Run apt-get without a terminal."""
    return output("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", *words)


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

    assert "these stay" in apt("purge", "velum")
    assert precious.exists()
    assert vm.file.exists()
