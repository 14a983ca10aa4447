# SPDX-License-Identifier: Apache-2.0
"""Names of VMs and the paths made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.names import MAX_PATH_BYTES, check_name, endpoint, ipc_path, vm_of


@pytest.mark.parametrize("name", ["a", "7", "web-1", "default", "a" * 63, "a--b"])
def test_names(name: str) -> None:
    assert check_name(name) == name
    assert ipc_path("/run/velum", name) == Path(f"/run/velum/{name}/vmm.ipc")
    assert vm_of(ipc_path("/run/velum", name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a-",
        "A",
        "a.b",
        "..",
        "../x",
        "a/b",
        "a" * 64,
        "a\n",
        "\n",
        "ä",
        "a b",
        "a\0",
        "٣",
    ],
)
def test_what_is_no_name(name: str) -> None:
    for use in (check_name, lambda given: ipc_path("/run/velum", given)):
        with pytest.raises(VmFailure) as caught:
            use(name)
        assert caught.value.error.code is ErrorCode.VM_UNKNOWN


@given(st.text())
def test_no_name_leaves_the_directory(name: str) -> None:
    try:
        path = ipc_path("/run/velum", name)
    except VmFailure:
        return
    assert path.resolve().parent.parent == Path("/run/velum")


def test_a_path_of_somebody_s_own_names_a_vm_too() -> None:
    assert vm_of(Path("/tmp/two.ipc")) == "two"


def test_endpoints() -> None:
    assert endpoint("/run/velum/a.ipc") == "ipc:///run/velum/a.ipc"
    assert endpoint(Path("a.ipc")) == "ipc://a.ipc"
    # libzmq's own meaning of these is not ours.
    assert endpoint("@a") == "ipc://./@a"
    assert endpoint("*") == "ipc://./*"


@pytest.mark.parametrize("path", ["", "a" * (MAX_PATH_BYTES + 1), "ä" * 60, "a\0b"])
def test_what_no_socket_can_be_bound_to(path: str) -> None:
    with pytest.raises(VmFailure) as caught:
        endpoint(path)
    assert caught.value.error.code is ErrorCode.HOST_RESOURCE
    endpoint("a" * MAX_PATH_BYTES)
