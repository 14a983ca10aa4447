# SPDX-License-Identifier: Apache-2.0
"""What a call brings along beside its body: whose it is, and how it wants to be answered."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

__all__ = ["IDEMPOTENCY_KEY", "NO_CONTEXT", "REQUEST_ID", "Context"]

# \Z, because $ would let a line feed through at the end.
REQUEST_ID: Final = r"\A[A-Za-z0-9._:-]{0,128}\Z"
"""What an id may be that is repeated in logs, answers and audit lines."""
IDEMPOTENCY_KEY: Final = r"\A[!-~]{1,255}\Z"


class Context(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The circumstances of one call."""

    request_id: Annotated[str, msgspec.Meta(pattern=REQUEST_ID)] = ""
    """What every log calls the request that this call is for; "" if it is for none."""
    idempotency_key: Annotated[str, msgspec.Meta(pattern=IDEMPOTENCY_KEY)] | None = None
    """Calls with the same key are one: it is done once, and all are answered alike."""
    respond_async: bool = False
    """Answer with the operation's ``JobInfo`` as soon as it is accepted."""
    dry_run: bool = False
    """Say whether it could be done, and change nothing."""


NO_CONTEXT: Final = Context()
"""That of a call which nobody needs to know anything about."""
