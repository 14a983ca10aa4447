# SPDX-License-Identifier: Apache-2.0
import pytest

from api_server.hosts import authority, vm_name
from ipc_protocol.errors import ErrorCode, VmFailure


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("", "main"),
        ("  ", "main"),
        ("localhost", "main"),
        ("LocalHost", "main"),
        ("localhost:80", "main"),
        ("localhost:", "main"),
        (":80", "main"),
        ("web-1", "web-1"),
        ("WEB-1:8080", "web-1"),
        ("7", "7"),
        ("a" * 63, "a" * 63),
    ],
)
def test_a_host_stands_for_a_vm(host, name):
    assert vm_name(host, "main") == name


@pytest.mark.parametrize(
    "host",
    [
        "a" * 64,
        "..",
        "../etc/passwd",
        "/run/velum/other",
        "%2e%2e",
        "a.b",
        "web-1.",
        "localhost.",
        "-a",
        "a-",
        "a_b",
        "a b",
        "a\x00b",
        "a\nb",
        "web-1\n",
        "user@web-1",
        "web-1:80:90",
        "web-1:http",
        "[::1]",
        "[::1]:80",
        "127.0.0.1",
        "\u0131nfo",
        "\u212aelvin",
        "\xfc",
        "*",
        "@abstract",
    ],
)
def test_a_hostile_host_is_an_unknown_vm(host):
    with pytest.raises(VmFailure) as failure:
        vm_name(host, "main")
    assert failure.value.error.code is ErrorCode.VM_UNKNOWN
    assert "\n" not in failure.value.error.message


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("/api/v1/vmm.ping", "web-1", "web-1"),
        ("/api/v1/vmm.ping", None, ""),
        ("http://web-2/api/v1/vmm.ping", "web-1", "web-2"),
        ("HTTP://web-2:80?x", None, "web-2:80"),
        ("https://web-2", "web-1", "web-2"),
        ("http:///api", "web-1", ""),
        ("/http://web-2/", "web-1", "web-1"),
        ("*", "web-1", "web-1"),
    ],
)
def test_an_absolute_target_outranks_the_header(target, host, expected):
    assert authority(target, host) == expected
