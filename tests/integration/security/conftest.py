# SPDX-License-Identifier: Apache-2.0
"""A server to attack, and the peer that it serves."""

from collections.abc import Iterator

import pytest

from ipc_protocol.names import ipc_path
from tests.support.api import ApiProcess, Peer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """Return a server whose one worker does whatever it is told."""
    folder = tmp_path_factory.mktemp("run")
    with Peer(ipc_path(folder, "default")), ApiProcess(folder) as api:
        yield api
