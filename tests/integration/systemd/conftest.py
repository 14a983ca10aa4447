# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests on a machine whose systemd runs Velum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from tests.support.systemd import UnitVm, systemctl

FIRST: Final = ("test_install",)
LAST: Final = ("test_shutdown", "test_removal", "test_deployment_page")
"""The machine is new before the first, and of little use behind the last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the life of an installation in its order."""

    def place(item: pytest.Item) -> int:
        name = item.path.stem
        return -1 if name in FIRST else 1 + LAST.index(name) if name in LAST else 0

    items.sort(key=place)


@pytest.fixture(scope="session")
def api() -> None:
    """Have the API's socket listen."""
    systemctl("enable", "--now", "velum-api.socket")


@pytest.fixture
def vms(api: None) -> Iterator[Callable[..., UnitVm]]:  # noqa: ARG001 - it is there
    """Return a function that makes VMs, which are gone with the test."""
    with ExitStack() as stack:

        def make(name: str, **arguments: object) -> UnitVm:
            vm = UnitVm(name, **arguments)  # type: ignore[arg-type]
            stack.callback(vm.remove)
            return vm

        yield make
