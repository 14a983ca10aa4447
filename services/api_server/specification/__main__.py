# SPDX-License-Identifier: Apache-2.0
"""``python -m api_server.specification``: write the documents into the source tree."""

from __future__ import annotations

import json
from pathlib import Path

from api_server.specification.document import build
from api_server.specification.downgrade import downgrade
from api_server.specification.reference import render
from api_server.specification.served import FOLDER
from ipc_protocol.schema import Schema, config_schema, file_schema

__all__ = ["documents", "main"]


def documents(root: Path) -> dict[Path, str]:
    """Make every document there is, for the folder with the source tree.

    Returns:
        The text of each, by where it is kept.
    """
    document = build()
    return {
        FOLDER / "openapi.json": _encode(document),
        FOLDER / "openapi-3.0.json": _encode(downgrade(document)),
        root / "docs" / "api.md": render(document),
        root / "docs" / "vm-config.schema.json": _encode(config_schema()),
        root / "docs" / "vm-file.schema.json": _encode(file_schema()),
    }


def main() -> None:
    """Write them."""
    for path, text in documents(FOLDER.parents[2]).items():
        path.write_text(text)


def _encode(document: Schema) -> str:
    return json.dumps(document, indent=1) + "\n"


if __name__ == "__main__":
    main()
