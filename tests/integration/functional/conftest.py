# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the functional tests."""

from collections.abc import Iterator

import pytest

import kvm_shim
from tests.support.network import Taps, namespace_problem, own_network


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
