# SPDX-License-Identifier: Apache-2.0
import msgspec
import pytest

from ipc_protocol.config import VmConfig
from ipc_protocol.config_devices import DiskConfig, NetConfig, VsockConfig
from ipc_protocol.host_paths import host_paths


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
        ({"net": [{"tap": "t0"}], "balloon": {"size": 0}}, []),
    ],
)  # fmt: skip
def test_every_path_in_a_configuration_is_found(parts, pointers):
    assert list(host_paths(_config(**parts))) == pointers


def test_a_device_has_them_too():
    assert list(host_paths(DiskConfig(path="/a"))) == ["/path"]
    assert list(host_paths(VsockConfig(cid=3, socket="/a"))) == ["/socket"]
    assert list(host_paths(NetConfig(tap="t0"))) == []
    assert list(host_paths(None)) == []
