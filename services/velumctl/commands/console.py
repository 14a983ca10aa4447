# SPDX-License-Identifier: Apache-2.0
"""``console``: a session on the guest's serial port or console."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from ipc_protocol.config_devices import SerialMode
from velumctl.cli import Target, command, pass_target
from velumctl.failures import ExitCode, Failure
from velumctl.terminal import End, attach, handed_over

__all__ = ["COMMANDS"]

_PORTS: Final = ("console", "serial")
_ELSEWHERE: Final = {
    SerialMode.TTY: "goes to the terminal that its worker runs on",
    SerialMode.FILE: "is written to {file}: see `velumctl logs --file {file}`",
    SerialMode.NULL: "goes nowhere",
    SerialMode.OFF: "is switched off",
}


class _Key(click.ParamType[bytes]):
    """A control key as one writes it: ``ctrl-]`` or ``^]``."""

    name = "KEY"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Return the byte that it sends."""
        found = re.fullmatch(r"(?:ctrl-|\^)([a-z@\[\\\]^_])", str(value), re.IGNORECASE)
        if found is None:
            self.fail(f"{value} is no control key such as ctrl-] or ctrl-a", param, ctx)
        return bytes([ord(found[1].upper()) & 0x1F])


@command("console")
@click.argument("port", type=click.Choice(_PORTS), required=False)
@click.option(
    "--detach-key",
    type=_Key(),
    default="ctrl-]",
    show_default=True,
    metavar="KEY",
    help="What ends the session.",
)
@pass_target
def console(target: Target, *, port: str | None, detach_key: bytes) -> None:
    """Attach this terminal to the guest's console, or to its serial port.

    Without a name, it is whichever of the two goes to a pty or a socket.
    """
    with target.api() as api:
        config = api.get("vm.info")["config"]
    port = port or _choose(config)
    key = f"ctrl-{chr(detach_key[0] | 0x40).lower()}"
    with _open(port, config.get(port, {})) as peer, handed_over(peer):
        click.echo(f"attached to the {port} of {target.vm}; {key} detaches\r", err=True)
        end = attach(peer, detach_key)
        click.echo(f"\r\n{end.value}\r", err=True)
    if end is End.CLOSED:
        raise Failure(
            ExitCode.CONFLICT,
            f"the worker closed the {port}: the VM was switched off, or somebody else attached",
        )


def _choose(config: Mapping[str, Any]) -> str:
    for port in _PORTS:
        if config.get(port, {}).get("mode") in (SerialMode.PTY, SerialMode.SOCKET):
            return port
    raise Failure(
        ExitCode.CONFLICT,
        "neither the console nor the serial port of this VM can be attached to",
        *(_explain(port, config.get(port, {})) for port in _PORTS),
        "create it with --console pty or --serial socket=PATH, for example",
    )


def _explain(port: str, config: Mapping[str, Any]) -> str:
    reason = _ELSEWHERE.get(config.get("mode", SerialMode.OFF), "has a mode unknown here")
    return f"the {port} {reason.format(file=config.get('file'))}"


@contextlib.contextmanager
def _open(port: str, config: Mapping[str, Any]) -> Iterator[int]:
    path = config.get("socket" if config.get("mode") == SerialMode.SOCKET else "file")
    try:
        match config.get("mode"):
            case SerialMode.PTY if path:
                peer = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            case SerialMode.PTY:
                raise Failure(ExitCode.CONFLICT, f"the {port} has no pty before the VM is booted")
            case SerialMode.SOCKET:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.connect(str(path))
                    peer = connection.detach()
            case _:
                raise Failure(ExitCode.CONFLICT, _explain(port, config))
    except OSError as ex:
        code = ExitCode.FORBIDDEN if isinstance(ex, PermissionError) else ExitCode.CONFLICT
        message = f"the {port} cannot be opened at {path}: {ex.strerror}"
        raise Failure(code, message, "is the VM running?") from ex
    try:
        yield peer
    finally:
        os.close(peer)


COMMANDS: Final = (console,)
