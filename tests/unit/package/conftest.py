# SPDX-License-Identifier: Apache-2.0
"""The package is built once for all that look at it."""

from pathlib import Path

import pytest

from tests.support.package import build, unpack


@pytest.fixture(scope="session")
def package() -> Path:
    return build()


@pytest.fixture(scope="session")
def root(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's files, as they would lie below the root."""
    return unpack(package, tmp_path_factory.mktemp("package") / "root")
