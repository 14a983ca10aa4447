# SPDX-License-Identifier: Apache-2.0
"""A session tells a command's failure from a failure of the machine it runs in."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.testbed import session
from tests.testbed.session import MachineDiedError, Session, TimeLimitError

Ends = dict[str, socket.socket]


@pytest.fixture
def channels() -> Iterator[tuple[Ends, Ends]]:
    """Return the host's ends of the channels and the machine's."""
    with ExitStack() as stack:
        pairs = {name: socket.socketpair() for name in ("out", "err", "control")}
        ends = [
            {name: stack.enter_context(pair[i]) for name, pair in pairs.items()} for i in (0, 1)
        ]
        yield ends[0], ends[1]


@pytest.fixture
def machine(channels: tuple[Ends, Ends]) -> Iterator[Callable[[Callable[[Ends], None]], Session]]:
    """Return a function that starts a machine that behaves as told, and a session with it."""
    threads = []

    def start(behaviour: Callable[[Ends], None], time_limit: float = 30.0) -> Session:
        threads.append(threading.Thread(target=behaviour, args=(channels[1],)))
        threads[-1].start()
        return Session(channels[0], time_limit)

    yield start
    for end in channels[0].values():
        end.close()
    for thread in threads:
        thread.join()


def test_status_and_output_are_passed_on(machine, capfdbinary) -> None:
    def behaviour(ends: Ends) -> None:
        ends["control"].sendall(b"ready\n")
        assert ends["control"].recv(2) == b".\n"
        ends["control"].sendall(b"alive .\nexi")
        ends["out"].sendall(b"to stdout")
        ends["err"].sendall(b"to stderr")
        ends["control"].sendall(b"t 7\n")

    assert machine(behaviour).status() == 7
    assert capfdbinary.readouterr() == (b"to stdout", b"to stderr")


def test_an_end_without_a_status_is_the_machines(machine) -> None:
    def behaviour(ends: Ends) -> None:
        ends["control"].sendall(b"ready\n")
        ends["control"].shutdown(socket.SHUT_RDWR)

    with pytest.raises(MachineDiedError, match="ended before"):
        machine(behaviour).status()


def test_silence_is_the_machines(machine, monkeypatch) -> None:
    monkeypatch.setattr(session, "SILENCE_LIMIT", 0.5)

    def behaviour(ends: Ends) -> None:
        ends["control"].sendall(b"ready\n")
        ends["out"].sendall(b"output is no answer")

    with pytest.raises(MachineDiedError, match="silent"):
        machine(behaviour).status()


def test_a_long_command_is_its_own_fault(machine, monkeypatch) -> None:
    monkeypatch.setattr(session, "SILENCE_LIMIT", 5.0)

    def behaviour(ends: Ends) -> None:
        ends["control"].sendall(b"ready\n")
        while ends["control"].recv(2):
            ends["control"].sendall(b"alive .\n")

    with pytest.raises(TimeLimitError):
        machine(behaviour, time_limit=1.0).status()
