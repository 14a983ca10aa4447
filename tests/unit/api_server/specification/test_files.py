# SPDX-License-Identifier: Apache-2.0
"""What is kept of the specification is what is made today."""

from __future__ import annotations

from pathlib import Path

import pytest

from api_server.specification.__main__ import documents

ROOT = Path(__file__).resolve().parents[4]
DOCUMENTS = documents(ROOT)


def test_there_are_four():
    names = {str(path.relative_to(ROOT)) for path in DOCUMENTS}
    assert names == {
        "docs/api.md",
        "docs/vm-config.schema.json",
        "docs/vm-file.schema.json",
        "services/api_server/specification/openapi.json",
        "services/api_server/specification/openapi-3.0.json",
    }


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_nothing_is_stale(path):
    what = f"{path.name} is stale: write it anew with python -m api_server.specification"
    assert path.read_text() == DOCUMENTS[path], what
