# SPDX-License-Identifier: Apache-2.0
"""What a client sent: from the bytes of a request body to plain JSON values."""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

import msgspec
from gunicorn.http.errors import ParseException

from api_server.failure import failure
from ipc_protocol.errors import ErrorCode

__all__ = ["MAX_BODY", "Stream", "check_media_type", "parse_json", "read_body"]

MAX_BODY = 4 << 20
"""Bytes; the same bound as Cloud Hypervisor's."""

MAX_VALUES = 1 << 18
"""JSON values; 4 MiB of ``[[],[],...`` would take dozens of times their size in memory."""

# RFC 6839 section 3.1 has the structured suffix. The form type is what curl says when it is
# told nothing, whatever it sends.
_JSON_TYPE = re.compile(r"application/(?:json|[a-z0-9!#$&^_.+-]+\+json|x-www-form-urlencoded)")
_SHOWN = 80
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})


class Stream(Protocol):
    """A body that ends by itself, as ``wsgi.input`` does under ``wsgi.input_terminated``."""

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes; fewer only at the end."""


def read_body(stream: Stream, content_length: int | None) -> bytes:
    """Read a whole body, however it is framed, without ever holding more than the limit."""
    if content_length is None or content_length <= MAX_BODY:
        try:
            body = stream.read(MAX_BODY + 1)
        except (OSError, ParseException) as ex:
            raise failure(
                ErrorCode.INVALID_REQUEST, f"the request body cannot be read: {ex}"
            ) from ex
        if content_length is not None and len(body) < content_length:
            raise failure(ErrorCode.INVALID_REQUEST, "the request body ends early")
        if len(body) <= MAX_BODY:
            return body
    raise failure(
        ErrorCode.PAYLOAD_TOO_LARGE, f"the request body is larger than {MAX_BODY} bytes (4 MiB)"
    )


def check_media_type(content_type: str | None, content_encoding: str | None) -> None:
    """Refuse a body that says of itself that it is not JSON in UTF-8."""
    if content_encoding is not None and content_encoding.strip().lower() not in ("", "identity"):
        raise failure(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Encoding {_quote(content_encoding)} is not supported; send the body as it is",
        )
    if content_type is None or not content_type.strip():
        return
    media_type, _, parameters = content_type.lower().partition(";")
    charset = re.search(r"(?:^|;)\s*charset\s*=\s*\"?([^\s;\"]*)", parameters)
    if not _JSON_TYPE.fullmatch(media_type.strip()) or (charset and charset[1] not in _UTF8):
        raise failure(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type {_quote(content_type)} is not JSON in UTF-8; send application/json",
        )


def parse_json(body: bytes) -> Any:
    """Parse a body that must be one JSON document (RFC 8259), and an unambiguous one."""
    # Each value but the first comes after one of these.
    if sum(map(body.count, (b",", b"[", b"{", b":"))) > MAX_VALUES:
        raise failure(
            ErrorCode.PAYLOAD_TOO_LARGE, f"the request body has more than {MAX_VALUES} JSON values"
        )
    try:
        document = msgspec.json.decode(body)
        json.loads(body, object_pairs_hook=_refuse_duplicates, parse_int=str, parse_float=str)
    except RecursionError as ex:
        raise failure(ErrorCode.MALFORMED_JSON, "the JSON is nested too deeply") from ex
    except (msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError) as ex:
        raise failure(ErrorCode.MALFORMED_JSON, _describe(body, ex)) from ex
    return document


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise failure(
                ErrorCode.MALFORMED_JSON,
                f"the member {_quote(key)} appears twice in one JSON object",
            )
        seen.add(key)


def _describe(body: bytes, ex: Exception) -> str:
    """Say what is wrong and where, as an editor would count."""
    reason = str(ex).removeprefix("JSON is malformed: ")
    position = re.search(r" \(byte (\d+)\)$", reason)
    if position is None:
        return f"the body is not valid JSON: {reason}"
    before = body[: int(position[1])]
    line = before.count(b"\n") + 1
    column = len(before) - (before.rfind(b"\n") + 1) + 1
    reason = reason[: position.start()]
    return f"the body is not valid JSON: {reason} (line {line}, column {column})"


def _quote(text: str) -> str:
    """Show what a client sent without letting it fill the answer."""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
