# SPDX-License-Identifier: Apache-2.0
"""Fixtures of velumctl's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scripted_api import Reply, ScriptedApi
from tests.support.velumctl import Velumctl


@pytest.fixture(autouse=True)
def _nothing_of_ours_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VELUM_VM", "VELUM_API_SOCKET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedApi]:
    """Return a server that has nothing to say against anything."""
    with ScriptedApi(tmp_path / "api.sock", lambda _: Reply(204)) as server:
        yield server


@pytest.fixture
def velumctl(server: ScriptedApi) -> Velumctl:
    """Return velumctl for that server."""
    return Velumctl(server.path)
