# SPDX-License-Identifier: Apache-2.0
"""``events``: what happens to a VM, as it happens."""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import click
import msgspec

from velumctl import sse
from velumctl.api import PREFIX, Api
from velumctl.cli import Target, command, pass_target
from velumctl.display import json_option, printable
from velumctl.failures import Failure

__all__ = ["COMMANDS"]

_PAUSE: Final = 0.5
"""Seconds before a connection that was lost is made again."""


@command("events")
@click.option("--after", metavar="ID", help="Begin behind this event, not with the next one.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many.")
@json_option
@pass_target
def events(target: Target, *, after: str | None, count: int | None, as_document: bool) -> None:
    """Show the VM's events as they happen.

    A connection that is lost is made again, and the events between are not missed.
    """
    with target.api() as api:
        for number, event in enumerate(_all_events(api, after or ""), start=1):
            click.echo(event.data if as_document else _line(event))
            sys.stdout.flush()
            if number == count:
                return


def _all_events(api: Api, last_id: str) -> Iterator[sse.ServerEvent]:
    reached = False
    while True:
        try:
            for event in _connection(api, last_id):
                reached = True
                last_id = event.id
                yield event
        except Failure as ex:
            # Whom we never reached is not there; whom we have lost may come back.
            if not (reached and ex.is_loss):
                raise
        api.close()
        time.sleep(_PAUSE)


def _connection(api: Api, last_id: str) -> Iterator[sse.ServerEvent]:
    headers = {"Accept": "text/event-stream"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    response = api.open("GET", f"{PREFIX}vmm.events", headers=headers)
    if response.status != HTTPStatus.OK:
        raise api.refusal(response)
    try:
        yield from sse.parse(iter(response.readline, b""))
    except (OSError, http.client.HTTPException):
        return  # It is as good as ended.


def _line(event: sse.ServerEvent) -> str:
    """Write an event for people."""
    try:
        document = msgspec.json.decode(event.data)
    except msgspec.DecodeError:
        document = None
    if not isinstance(document, dict):
        return printable(f"{event.name} {event.data}")
    return printable(" ".join(filter(None, (_time(document), event.name, _properties(document)))))


def _time(document: Mapping[str, Any]) -> str:
    timestamp = document.get("timestamp")
    if not isinstance(timestamp, dict):
        return ""
    return f"{timestamp.get('secs', 0):6}.{timestamp.get('nanos', 0) // 1_000_000:03}"


def _properties(document: Mapping[str, Any]) -> str:
    properties = document.get("properties") or {}
    return " ".join(f"{name}={value}" for name, value in properties.items())


COMMANDS: Final = (events,)
