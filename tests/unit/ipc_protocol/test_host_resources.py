# SPDX-License-Identifier: Apache-2.0
import types
import typing

import msgspec
import pytest

from ipc_protocol.config import VmConfig
from ipc_protocol.config_devices import (
    DiskConfig,
    NetConfig,
    Path,
    SocketPath,
    TapName,
    VsockConfig,
)
from ipc_protocol.host_resources import host_resources


def _config(**parts):
    return msgspec.convert({"payload": {}, **parts}, VmConfig)


@pytest.mark.parametrize(
    ("parts", "pointers"),
    [
        ({}, []),
        ({"rng": {"src": "/dev/urandom"}}, []),
        ({"rng": {"src": "/etc/shadow"}}, ["/rng/src"]),
        ({"payload": {"kernel": "/k", "initramfs": "/i", "cmdline": "/no/path"}},
         ["/payload/kernel", "/payload/initramfs"]),
        ({"disks": [{"path": "/a"}, {"path": "/b"}]}, ["/disks/0/path", "/disks/1/path"]),
        ({"serial": {"mode": "File", "file": "/f"}}, ["/serial/file"]),
        ({"console": {"mode": "Socket", "socket": "/s"}}, ["/console/socket"]),
        ({"pmem": [{"file": "/p"}]}, ["/pmem/0/file"]),
        ({"vsock": {"cid": 3, "socket": "/v"}}, ["/vsock/socket"]),
        ({"net": [{}, {"tap": "t0", "mac": "02:00:00:00:00:01"}]}, ["/net/1/tap"]),
        ({"balloon": {"size": 0}}, []),
    ],
)  # fmt: skip
def test_every_name_in_a_configuration_is_found(parts, pointers):
    assert list(host_resources(_config(**parts))) == pointers


def test_a_device_has_them_too():
    assert list(host_resources(DiskConfig(path="/a"))) == ["/path"]
    assert list(host_resources(VsockConfig(cid=3, socket="/a"))) == ["/socket"]
    assert list(host_resources(NetConfig(tap="t0"))) == ["/tap"]
    assert list(host_resources(None)) == []


def _texts(kind, pointer=""):
    """Find every field below a type that takes any text, and whether it names something."""
    if typing.get_origin(kind) in (tuple, typing.Union, types.UnionType):
        for each in typing.get_args(kind):
            yield from _texts(each, pointer)
    elif typing.get_origin(kind) is typing.Annotated:
        if kind.__origin__ is str:
            yield pointer, kind in (Path, SocketPath, TapName)
        else:
            yield from _texts(kind.__origin__, pointer)
    elif kind is str:
        yield pointer, False
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            yield from _texts(hint, f"{pointer}/{name}")


def test_every_text_is_known_to_name_something_of_the_host_or_not():
    """A new field has to be put into one of the two."""
    harmless = {
        "/payload/cmdline",
        "/disks/serial",
        "/disks/rate_limit_group",
        "/net/host_mac",
        "/net/ip",
        "/net/mac",
        "/net/mask",
    }
    found = dict(_texts(VmConfig))
    other = {pointer for pointer, names in found.items() if not names}
    assert {pointer for pointer in other if not pointer.endswith("/id")} == harmless
    assert {pointer for pointer, names in found.items() if names} >= {"/payload/kernel", "/net/tap"}
