# SPDX-License-Identifier: Apache-2.0
"""From any document to a ``VmConfig``, or to all the reasons why it is none."""

from __future__ import annotations

import msgspec

from ipc_protocol.config import VmConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmFailure

__all__ = ["parse_config", "validate"]


def parse_config(document: object) -> VmConfig:
    """Return the configuration in a decoded document."""
    try:
        config = msgspec.convert(document, VmConfig, strict=True)
    except msgspec.ValidationError as ex:
        raise VmFailure(
            ErrorCode.INVALID_CONFIG, str(ex), fields=(FieldError("", str(ex)),)
        ) from ex
    return config


def validate(config: VmConfig) -> tuple[FieldError, ...]:
    """Return what is wrong with a configuration whose types are right."""
    del config
    return ()
