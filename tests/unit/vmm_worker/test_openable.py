# SPDX-License-Identifier: Apache-2.0
"""What a configuration has its worker open, and to do what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipc_protocol.validation import parse_config
from kvm_shim.landlock import Access
from vmm_worker.openable import named, of_process

READ = Access.READ
BOTH = Access.READ | Access.WRITE
FOLDER = BOTH | Access.MAKE
DEVICE = BOTH | Access.CONTROL


def opened(**parts: Any) -> dict[str, tuple[str, Access]]:
    config = parse_config({"payload": {"kernel": "/k"}, **parts})
    return {each.pointer: (each.path, each.access) for each in named(config)}


def test_every_path_of_a_configuration_is_named() -> None:
    assert opened(
        payload={"kernel": "/k", "initramfs": "/i"},
        disks=[{"path": "/d"}, {"path": "/e", "readonly": True}],
        pmem=[{"file": "/p"}, {"file": "/q", "discard_writes": True}],
        rng={"src": "/dev/hwrng"},
        serial={"mode": "File", "file": "/s/log"},
        console={"mode": "Socket", "socket": "/c/socket"},
        vsock={"cid": 3, "socket": "/v/socket"},
        net=[{"tap": "tap0"}],
        landlock_rules=[
            {"path": "/r", "access": "r"},
            {"path": "/w", "access": "w"},
            {"path": "/b", "access": "rw"},
        ],
    ) == {
        "/payload/kernel": ("/k", READ),
        "/payload/initramfs": ("/i", READ),
        "/disks/0/path": ("/d", DEVICE),
        "/disks/1/path": ("/e", READ | Access.CONTROL),
        "/pmem/0/file": ("/p", BOTH),
        "/pmem/1/file": ("/q", READ),
        "/rng/src": ("/dev/hwrng", READ),
        "/serial/file": ("/s/log", Access.WRITE),
        "/console/socket": ("/c", FOLDER),
        "/vsock/socket": ("/v", FOLDER),
        "/net/0/tap": ("/dev/net/tun", DEVICE),
        "/landlock_rules/0/path": ("/r", READ),
        "/landlock_rules/1/path": ("/w", Access.WRITE | Access.MAKE | Access.CONTROL),
        "/landlock_rules/2/path": ("/b", FOLDER | Access.CONTROL),
    }


def test_what_is_not_asked_for_is_not_opened() -> None:
    assert opened(console={"mode": "Off"}) == {
        "/payload/kernel": ("/k", READ),
        "/rng/src": ("/dev/urandom", READ),
    }


def test_the_process_writes_to_no_file_of_the_host() -> None:
    config = parse_config({"payload": {"kernel": "/k"}, "console": {"mode": "Null"}})
    found = {
        each.path: each.access for each in of_process(config, kvm="/dev/kvm", ipc=Path("/a/b/c"))
    }
    assert found["/a/b"] == Access.MAKE
    assert found["/a"] == Access.CLEAR
    written = {path for path, access in found.items() if Access.WRITE in access}
    assert written == {"/dev/kvm", "/dev/null"}
    assert all(not each.pointer for each in of_process(config, kvm="/k", ipc=Path("/a/b/c")))
