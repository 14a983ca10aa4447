# SPDX-License-Identifier: Apache-2.0
"""What this build calls itself, and the versions of the protocol it speaks."""

from __future__ import annotations

from typing import Final

__all__ = ["BUILD_VERSION", "PREVIOUS_VERSION", "PROTOCOL_VERSION", "SPOKEN", "VERSION"]

VERSION = "0.1.0"
"""The distribution's version; a test holds it equal to ``pyproject.toml``."""

BUILD_VERSION = f"v{VERSION}"
"""What ``vmm.ping`` answers as ``build_version``."""

PROTOCOL_VERSION: Final = 3
"""One more in each release that changes a message; ``ipc_protocol.history`` says what."""

PREVIOUS_VERSION: Final = PROTOCOL_VERSION - 1
"""That of the release before, which may still run on the other side."""

SPOKEN: Final = (PREVIOUS_VERSION, PROTOCOL_VERSION)
"""Whoever receives a message of one of these answers in the same."""
