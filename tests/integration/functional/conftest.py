# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the functional tests."""

from collections.abc import Iterator

import pytest

import kvm_shim


@pytest.fixture
def vm() -> Iterator[kvm_shim.Vm]:
    """Return a VM with nothing in it."""
    with kvm_shim.Vm() as machine:
        yield machine
