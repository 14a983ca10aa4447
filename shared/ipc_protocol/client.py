# SPDX-License-Identifier: Apache-2.0
"""The way to a worker: a typed call with a deadline."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import zmq

from ipc_protocol import codec, envelope
from ipc_protocol.channel import Channel, Wait
from ipc_protocol.context import NO_CONTEXT, Context
from ipc_protocol.errors import ErrorCode, VmFailure
from ipc_protocol.jobs import JobInfo
from ipc_protocol.messages import SIGNATURES, Operation
from ipc_protocol.names import endpoint, vm_of

__all__ = ["MAX_CHANNELS", "Client"]

MAX_CHANNELS: Final = 64
"""Calls to one worker at the same time; more wait for their turn."""

# Its reply, should it come late, is dropped by whoever uses the channel next.
_HARMLESS: Final = frozenset({ErrorCode.VMM_TIMEOUT, ErrorCode.NOT_SUPPORTED})
"""Failures of a call after which its channel is as good as before."""


class _Pool:
    """The idle channels of one process, last used first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.turns = threading.BoundedSemaphore(MAX_CHANNELS)
        self.idle: list[Channel] = []


class Client:
    """Calls the operations of the worker at a socket path, from any thread.

    A call has a channel of its own while it lasts, so threads never wait for each
    other and no message passes a thread of ours. Channels are made when needed and
    after a ``fork`` anew. A worker that comes back is found by the next call, and one of
    the release before is spoken to in its own version of the protocol.
    """

    def __init__(self, path: str | os.PathLike[str], *, connect_grace: float = 0.25) -> None:
        self._path = os.fspath(path)
        self._endpoint = endpoint(path)
        self._grace_ns = int(connect_grace * 1e9)
        self._pools: dict[int, _Pool] = {}
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every channel; a call that still runs closes its own when it ends."""
        self._closed = True
        pool = self._pool()
        with pool.lock:
            idle, pool.idle = pool.idle, []
        for channel in idle:
            channel.close()

    def call(
        self,
        operation: Operation,
        body: object = None,
        *,
        timeout: float | None = None,
        context: Context = NO_CONTEXT,
    ) -> Any:
        """Have the worker do an operation and return its result, typed by its signature.

        Args:
            operation: What to do.
            body: What the operation's signature asks for, as struct or as plain document.
            timeout: Seconds to wait; the signature's own when ``None``.
            context: Whose call it is. With ``respond_async`` the result is a ``JobInfo``.

        Raises:
            VmFailure: What the worker answered; ``vmm_unavailable`` when none listens
                or it dies meanwhile; ``vmm_timeout`` when it does not answer in time;
                ``not_supported`` when its release has no words for what is asked.
        """
        signature = SIGNATURES[operation]
        seconds = signature.timeout if timeout is None else timeout
        request = envelope.Request(
            id=envelope.new_id(),
            operation=operation,
            deadline_ns=time.monotonic_ns() + int(seconds * 1e9),
            context=context,
            body=body,
        )
        data = envelope.encode_request(request)
        pool = self._pool()
        if not pool.turns.acquire(timeout=max(0.0, seconds)):
            raise self._late(operation, seconds)
        try:
            reply = self._exchange(pool, request, data, seconds)
        finally:
            pool.turns.release()
        if reply.error is not None:
            raise VmFailure.of(reply.error)
        return codec.convert(reply.value, JobInfo if context.respond_async else signature.result)

    def _pool(self) -> _Pool:
        # Another process's channels are never touched: their I/O thread is not here.
        pid = os.getpid()
        return self._pools.get(pid) or self._pools.setdefault(pid, _Pool())

    def _exchange(
        self, pool: _Pool, request: envelope.Request, data: bytes, seconds: float
    ) -> envelope.Reply:
        channel = self._connect(pool, request.deadline_ns)
        reusable = False
        try:
            reply = None
            if channel.version == request.version:
                reply = self._ask(channel, request, data, seconds)
                if reply.falls_back:
                    # It has looked at nothing but the version: to ask again does nothing twice.
                    channel.version = reply.version
            if channel.version != request.version:
                request = msgspec.structs.replace(request, version=channel.version)
                reply = self._ask(channel, request, envelope.encode_request(request), seconds)
            reusable = True
        except VmFailure as ex:
            reusable = ex.error.code in _HARMLESS
            raise
        else:
            assert reply is not None  # noqa: S101 - the channel has one version or the other
            return reply
        finally:
            self._release(pool, channel, reusable=reusable)

    def _ask(
        self, channel: Channel, request: envelope.Request, data: bytes, seconds: float
    ) -> envelope.Reply:
        if not channel.send(data):
            raise self._gone(request.operation)
        while (outcome := channel.wait(request.deadline_ns)) is Wait.READY:
            reply = self._reply_to(request, channel.receive())
            if reply is not None:
                return reply
        if outcome is Wait.LOST:
            raise self._gone(request.operation)
        raise self._late(request.operation, seconds)

    @staticmethod
    def _reply_to(request: envelope.Request, data: bytes | None) -> envelope.Reply | None:
        """Return the reply in a message if it is the one awaited; any other is dropped."""
        if data is None:
            return None
        try:
            reply = envelope.decode_reply(data)
        except envelope.EnvelopeFailure as ex:
            if ex.correlation == request.id:
                raise
            return None
        if reply.id != request.id:
            return None
        if reply.version != request.version and not reply.falls_back:
            raise codec.malformed("it does not answer in the version of the request")
        return reply

    def _connect(self, pool: _Pool, deadline_ns: int) -> Channel:
        while True:
            with pool.lock:
                channel = pool.idle.pop() if pool.idle else None
            if channel is None:
                break
            if not channel.lost():
                return channel
            channel.close()
        try:
            channel = Channel(self._endpoint)
        except zmq.ZMQError as ex:
            raise VmFailure(
                ErrorCode.HOST_RESOURCE,
                f"this process cannot open another connection to {self._path}",
                causes=(str(ex),),
            ) from ex
        try:
            self._await_connection(channel, deadline_ns)
        except VmFailure:
            channel.close()
            raise
        return channel

    def _await_connection(self, channel: Channel, deadline_ns: int) -> None:
        """Wait while there is hope: the grace for a worker to come, then while one listens."""
        while True:
            now_ns = time.monotonic_ns()
            if channel.connected(min(deadline_ns, now_ns + self._grace_ns)):
                return
            cause = _why_unreachable(self._path, self._grace_ns / 1e9)
            if cause is not None:
                raise self._unreachable(cause)
            if now_ns >= deadline_ns:
                raise VmFailure(
                    ErrorCode.VMM_TIMEOUT,
                    f"the worker at {self._path} accepts connections and does not respond",
                )

    def _release(self, pool: _Pool, channel: Channel, *, reusable: bool) -> None:
        if reusable:
            with pool.lock:
                if not self._closed:
                    pool.idle.append(channel)
                    return
        channel.close()

    def _late(self, operation: Operation, seconds: float) -> VmFailure:
        return VmFailure(
            ErrorCode.VMM_TIMEOUT,
            f"the worker at {self._path} did not answer {operation} within {seconds:g} s; "
            "the operation may still complete: see vmm.jobs",
        )

    def _gone(self, operation: Operation) -> VmFailure:
        return VmFailure(
            ErrorCode.VMM_UNAVAILABLE,
            f"the worker at {self._path} went away before it answered {operation}",
        )

    def _unreachable(self, cause: OSError) -> VmFailure:
        vm = vm_of(Path(self._path))
        message = (
            f"this user may not connect to the worker at {self._path}"
            if isinstance(cause, PermissionError)
            else f"no worker listens at {self._path}: start it with systemctl start "
            f"velum-vmm@{vm}, or velum-vmm --ipc {self._path}"
        )
        return VmFailure(ErrorCode.VMM_UNAVAILABLE, message, causes=(f"connect: {cause.strerror}",))


def _why_unreachable(path: str, patience: float) -> OSError | None:
    """Ask the kernel what ZeroMQ does not tell: why the connection does not stand."""
    # Twice: a worker that ends closes what it has not accepted, and then is not there.
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            try:
                probe.connect(path)
                probe.settimeout(patience)
                if probe.recv(1):
                    return None  # A worker greets whom it accepts.
            except (BlockingIOError, TimeoutError):
                return None  # Somebody listens, and is behind.
            except ConnectionResetError:
                pass
            except OSError as ex:
                return ex
    return PermissionError(errno.EACCES, "the worker accepts other users (velum-vmm --ipc-peer)")
