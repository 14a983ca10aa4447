# SPDX-License-Identifier: Apache-2.0
"""One version, told in two places."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ipc_protocol.version import BUILD_VERSION, VERSION


def test_the_distribution_has_the_same_version() -> None:
    project = Path(__file__).parents[3] / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == VERSION
    assert f"v{VERSION}" == BUILD_VERSION
