# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the functional tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import kvm_shim
from kvm_shim.virtio.block import BlockEngine
from tests.support.disks import IMAGE_SIZE, machine, pattern
from tests.support.machines import GuestVm
from tests.support.network import Taps, namespace_problem, own_network
from tests.support.processes import Worker, start_worker
from tests.support.rng import driver_of, with_rng
from tests.support.terminal import Terminal
from tests.support.virtio import Driver
from tests.support.vsock_guest import VsockGuest, VsockVm


@pytest.fixture
def vm() -> Iterator[kvm_shim.Vm]:
    """Return a VM with nothing in it."""
    with kvm_shim.Vm() as machine:
        yield machine


@pytest.fixture
def network() -> Iterator[None]:
    """Have the test in a network of its own."""
    problem = namespace_problem()
    if problem is not None:
        pytest.skip(problem)
    with own_network():
        yield


@pytest.fixture
def tap(network: None) -> Iterator[Taps]:  # noqa: ARG001 - where it is
    """Return a tap of one queue, `t0`."""
    with Taps("t0") as taps:
        yield taps


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """Return a worker without a VM."""
    with start_worker(tmp_path) as worker:
        yield worker


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Return a terminal for a worker."""
    with Terminal() as terminal:
        yield terminal


@pytest.fixture
def pc() -> Iterator[tuple[kvm_shim.Vm, kvm_shim.Device]]:
    """Return a VM that can be paused, and its PCI bus."""
    with machine() as parts:
        yield parts


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return a disk image whose sectors differ."""
    path = tmp_path / "disk.raw"
    path.write_bytes(pattern(IMAGE_SIZE))
    return path


@pytest.fixture(params=[BlockEngine.URING, BlockEngine.THREADS], ids=["uring", "threads"])
def engine(request: pytest.FixtureRequest) -> BlockEngine:
    """Return each of the ways to a disk's image."""
    return BlockEngine(request.param)


@pytest.fixture
def vsock(tmp_path: Path) -> Iterator[VsockVm]:
    """Return a VM with a vsock device."""
    with VsockVm(tmp_path / "v") as machine:
        yield machine


@pytest.fixture
def vsock_guest(vsock: VsockVm) -> VsockGuest:
    """Return the guest of `vsock`, which has its driver at work."""
    return VsockGuest(vsock)


@pytest.fixture
def rng_guest() -> Iterator[GuestVm]:
    """Return the VM of a tiny guest with an entropy device, and nothing loaded."""
    with GuestVm(None) as guest:
        yield with_rng(guest)


@pytest.fixture
def rng_driver(rng_guest: GuestVm) -> Driver:
    """Return the driver of the entropy device."""
    return driver_of(rng_guest)
