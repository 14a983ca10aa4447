# SPDX-License-Identifier: Apache-2.0
"""A way to a UNIX socket for tools that only know ports: bytes go through as they are."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

__all__ = ["relay"]

_PIECE = 1 << 16


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_PIECE):
            target.write(data)
            await target.drain()
    with contextlib.suppress(OSError, RuntimeError):
        target.write_eof()


async def _join(path: Path, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        await asyncio.gather(_pump(client, writer), _pump(reader, answers))
    finally:
        writer.close()
        answers.close()


class _Relay(threading.Thread):
    """Listens until told to stop."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="relay")
        self._path = path
        self._listening = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._told: asyncio.Event
        self._port = 0

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(partial(_join, self._path), "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._told.wait()
        server.close()  # the connections end with the loop

    def port(self) -> int:
        self._listening.wait()
        return self._port

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._told.set)
        self.join()


@contextlib.contextmanager
def relay(path: Path) -> Iterator[int]:
    """Lend a port of this machine that leads to the socket at a path."""
    thread = _Relay(path)
    thread.start()
    try:
        yield thread.port()
    finally:
        thread.stop()
