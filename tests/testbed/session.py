# SPDX-License-Identifier: Apache-2.0
"""The conversation with the testbed's machine while it runs a command."""

import contextlib
import selectors
import sys
import time
from collections.abc import Mapping
from socket import MSG_DONTWAIT, socket
from typing import IO

__all__ = ["MachineDiedError", "Session", "TimeLimitError"]

BEAT_INTERVAL = 0.25
BOOT_LIMIT = 180.0
SILENCE_LIMIT = 90.0
CHUNK = 1 << 16


class MachineDiedError(Exception):
    """The machine ended, panicked or hung; says nothing about the command."""


class TimeLimitError(Exception):
    """The command had not ended by its deadline."""


class Session:
    """Relays the command's output and keeps the machine's pulse.

    The machine answers each beat that it is sent. Without answers for a while
    it hangs, however little the command has to say meanwhile.
    """

    def __init__(self, channels: Mapping[str, socket], time_limit: float) -> None:
        """Take the host's ends of the channels "out", "err" and "control"."""
        self.channels = channels
        self.outputs: dict[str, IO[bytes]] = {"out": sys.stdout.buffer, "err": sys.stderr.buffer}
        self.started = self.heard = time.monotonic()
        self.time_limit = time_limit
        self.ready = False
        self.received = b""
        self.exit_status: int | None = None

    def status(self) -> int:
        """Return the command's exit status when it has ended."""
        with selectors.DefaultSelector() as selector:
            for name, channel in self.channels.items():
                selector.register(channel, selectors.EVENT_READ, name)
            while self.exit_status is None:
                for key, _ in selector.select(BEAT_INTERVAL):
                    self.receive(key.data)
                self.check_limits()
                self.beat()
        for name in self.outputs:
            self.drain(name)
        return self.exit_status

    def receive(self, name: str) -> None:
        """Take what one channel holds."""
        try:
            data = self.channels[name].recv(CHUNK)
        except ConnectionResetError:  # it had not read all of the beats
            data = b""
        if not data:
            raise MachineDiedError("it ended before the command did")
        if name == "control":
            *lines, self.received = (self.received + data).split(b"\n")
            for line in lines:
                self.hear(line.decode(errors="replace"))
        else:
            self.relay(name, data)

    def hear(self, line: str) -> None:
        """Note one line of the machine's agent."""
        self.heard = time.monotonic()
        word, _, value = line.partition(" ")
        if word == "ready":
            self.ready = True
        elif word == "exit":
            self.exit_status = int(value)

    def check_limits(self) -> None:
        """Raise what ends a session early."""
        now = time.monotonic()
        if self.exit_status is not None:
            return
        if now - self.heard > (SILENCE_LIMIT if self.ready else BOOT_LIMIT):
            raise MachineDiedError(f"it has been silent for {now - self.heard:.0f} s")
        if now - self.started > self.time_limit:
            raise TimeLimitError(f"no end within {self.time_limit:.0f} s")

    def beat(self) -> None:
        """Send a beat; one that finds the channel full, or closed, is dispensable."""
        if self.ready and self.exit_status is None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                self.channels["control"].send(b".\n", MSG_DONTWAIT)

    def drain(self, name: str) -> None:
        """Relay what was sent before the end and is still under way."""
        channel = self.channels[name]
        channel.setblocking(False)
        try:
            while data := channel.recv(CHUNK):
                self.relay(name, data)
        except BlockingIOError:
            pass

    def relay(self, name: str, data: bytes) -> None:
        """Pass output on at once."""
        self.outputs[name].write(data)
        self.outputs[name].flush()
