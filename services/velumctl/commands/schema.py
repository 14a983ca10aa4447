# SPDX-License-Identifier: Apache-2.0
"""``schema``: what an editor completes and checks configuration files by."""

from __future__ import annotations

from typing import Final

from ipc_protocol.schema import config_schema
from velumctl.cli import command
from velumctl.display import as_json

__all__ = ["COMMANDS"]


@command("schema")
def schema() -> None:
    """Print the JSON Schema of a VM's configuration."""
    as_json(config_schema())


COMMANDS: Final = (schema,)
