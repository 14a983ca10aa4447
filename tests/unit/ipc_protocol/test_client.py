# SPDX-License-Identifier: Apache-2.0
"""The caller's end: threads, deadlines, and workers that come, go and misbehave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from ipc_protocol import client as client_module
from ipc_protocol.client import Client
from ipc_protocol.config import PayloadConfig, VmConfig
from ipc_protocol.context import Context
from ipc_protocol.errors import ErrorCode, FieldError, VmError, VmFailure
from ipc_protocol.jobs import JobInfo, JobState
from ipc_protocol.messages import Operation, VmmPing
from ipc_protocol.server import Incoming, Server
from ipc_protocol.version import PROTOCOL_VERSION
from tests.support.users import open_directory
from tests.unit.ipc_protocol.strategies import PLAIN

LONG = 60.0
"""More seconds than any test waits: what must not be waited for."""

WORKER = """
import os, sys
from ipc_protocol.messages import Operation, VmmPing
from ipc_protocol.server import Server
with Server(sys.argv[1]) as server:
    print("listening", flush=True)
    while server.socket.poll():
        while (incoming := server.receive()) is not None:
            print(incoming.operation, flush=True)
            if incoming.operation is Operation.VMM_PING:
                server.reply(incoming, VmmPing("", "", os.getpid(), ()))
"""


def failure(client: Client, operation: Operation, timeout: float | None = LONG) -> VmError:
    with pytest.raises(VmFailure) as caught:
        client.call(operation, timeout=timeout)
    return caught.value.error


def in_threads(function: Callable[[int], object], arguments: Iterable[int]) -> None:
    """Call a function with each argument at the same time; fail if one call does."""
    with ThreadPoolExecutor(max_workers=64) as threads:
        list(threads.map(function, arguments))


class Process:
    """A worker in a process of its own, which never answers but to pings."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(client_module.__file__).parents[1])},
        )
        assert self.next_line() == "listening"

    def next_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        with self._process:
            self._process.kill()


@pytest.fixture
def spawn(path: Path) -> Iterator[Callable[[], Process]]:
    made: list[Process] = []

    def spawn() -> Process:
        made.append(Process(path))
        return made[-1]

    yield spawn
    for each in made:
        each.end()


@pytest.mark.usefixtures("worker")
def test_a_call_gives_a_typed_result(client: Client) -> None:
    assert client.call(Operation.VMM_PING) == VmmPing("v0", "0", os.getpid(), ())


def test_bodies_arrive_typed_and_errors_whole(worker_class: Any, path: Path) -> None:
    error = VmError(
        code=ErrorCode.FILE_UNAVAILABLE,
        message="no kernel",
        causes=("a", "b"),
        fields=(FieldError("/payload/kernel", "missing"),),
        reference="r",
    )
    bodies = []

    def answer(server: Server, incoming: Incoming) -> None:
        bodies.append(incoming.body)
        server.fail(incoming, error)

    config = VmConfig(payload=PayloadConfig(kernel="/boot/vmlinuz"))
    with worker_class(path, answer), Client(path) as client:
        for body in (config, {"payload": {"kernel": "/boot/vmlinuz"}}):
            with pytest.raises(VmFailure) as caught:
                client.call(Operation.VM_CREATE, body)
            assert caught.value.error == error
    assert bodies == [config, config]


def test_the_context_arrives_and_a_job_comes_back(worker_class: Any, path: Path) -> None:
    job = JobInfo(id="1", operation="vm.boot", state=JobState.QUEUED, submitted=1.5)
    contexts = []

    def answer(server: Server, incoming: Incoming) -> None:
        contexts.append(incoming.context)
        server.reply(incoming, job if incoming.context.respond_async else None)

    context = Context(request_id="r-1", idempotency_key="k", respond_async=True)
    with worker_class(path, answer), Client(path) as client:
        assert client.call(Operation.VM_BOOT, context=context) == job
        assert client.call(Operation.VM_BOOT) is None
    assert contexts == [context, Context()]


@pytest.mark.usefixtures("worker")
def test_the_worker_validates_whatever_the_caller_did_not(client: Client) -> None:
    with pytest.raises(VmFailure) as caught:
        client.call(Operation.VM_CREATE, {"payload": {}})
    assert caught.value.error.code is ErrorCode.INVALID_CONFIG
    with pytest.raises(VmFailure) as caught:
        client.call(Operation.VM_CREATE, {"payload": {"kernel": "\udcff"}})
    assert caught.value.error.code is ErrorCode.MALFORMED_MESSAGE


def test_threads_get_their_own_answers(worker_class: Any, path: Path) -> None:
    held: list[Incoming] = []

    def answer(server: Server, incoming: Incoming) -> None:
        held.append(incoming)
        if server.socket.poll(1):
            return
        # In another order than they came in.
        while held:
            each = held.pop()
            message = each.body.payload.kernel
            server.fail(each, VmError(code=ErrorCode.INTERNAL, message=message))

    wrong: list[VmError] = []

    def caller(number: int) -> None:
        for count in range(100):
            config = VmConfig(payload=PayloadConfig(kernel=f"/{number}/{count}"))
            with pytest.raises(VmFailure) as caught:
                client.call(Operation.VM_CREATE, config, timeout=LONG)
            if caught.value.error.message != config.payload.kernel:
                wrong.append(caught.value.error)

    with worker_class(path, answer), Client(path) as client:
        in_threads(caller, range(8))
    assert not wrong


def test_nobody_listens(client: Client, path: Path) -> None:
    started = time.monotonic()
    error = failure(client, Operation.VMM_PING)
    assert time.monotonic() - started < LONG / 2
    assert error.code is ErrorCode.VMM_UNAVAILABLE
    assert f"velum-vmm --ipc {path}" in error.message
    assert error.causes == ("connect: No such file or directory",)


def test_a_stale_socket_is_nobody(client: Client, spawn: Callable[[], Process], path: Path) -> None:
    spawn().end()
    assert path.is_socket()
    error = failure(client, Operation.VMM_PING)
    assert error.code is ErrorCode.VMM_UNAVAILABLE
    assert error.causes == ("connect: Connection refused",)


def in_child(function: Callable[[], bool]) -> None:
    """Run a function in a fork of this process; it has to return true."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if function() else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.usefixtures("worker")
def test_a_socket_of_somebody_else(client: Client, path: Path) -> None:
    path.chmod(0)

    def attempt() -> bool:
        if os.geteuid() == 0:
            os.setuid(65534)  # root may connect to anything
        error = failure(client, Operation.VMM_PING)
        return error.code is ErrorCode.VMM_UNAVAILABLE and "may not connect" in error.message

    in_child(attempt)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_a_user_whom_the_worker_does_not_accept(worker_class: Any) -> None:
    with open_directory() as place, worker_class(place / "vm.ipc"), Client(place / "vm.ipc") as own:
        (place / "vm.ipc").chmod(0o666)

        def attempt() -> bool:
            os.setuid(65534)
            error = failure(own, Operation.VMM_PING)
            return error.code is ErrorCode.VMM_UNAVAILABLE and "--ipc-peer" in error.causes[0]

        in_child(attempt)
        assert own.call(Operation.VMM_PING, timeout=LONG)


def test_a_path_no_socket_can_have(tmp_path: Path) -> None:
    with pytest.raises(VmFailure) as caught:
        Client(tmp_path / ("x" * 120))
    assert caught.value.error.code is ErrorCode.HOST_RESOURCE
    assert "107" in caught.value.error.message


def test_a_worker_killed_in_the_middle_is_noticed_at_once(
    spawn: Callable[[], Process], client: Client
) -> None:
    process = spawn()
    killer = threading.Thread(target=lambda: (process.next_line(), process.end()))
    killer.start()
    started = time.monotonic()
    error = failure(client, Operation.VM_BOOT)
    assert time.monotonic() - started < LONG / 2
    assert error.code is ErrorCode.VMM_UNAVAILABLE
    assert "went away before it answered vm.boot" in error.message
    killer.join()


def test_a_worker_that_comes_back_is_found(spawn: Callable[[], Process], client: Client) -> None:
    pids = set()
    for _ in range(3):
        process = spawn()
        pids.add(client.call(Operation.VMM_PING, timeout=LONG).pid)
        process.end()
    assert len(pids) == 3
    assert failure(client, Operation.VMM_PING).code is ErrorCode.VMM_UNAVAILABLE


def test_many_idle_channels_outlive_a_restart(
    worker_class: Any, path: Path, client: Client
) -> None:
    for _ in range(3):
        with worker_class(path):
            in_threads(lambda _: client.call(Operation.VMM_PING), range(8))
            assert client.call(Operation.VMM_PING)


def test_a_worker_that_starts_within_the_grace_is_waited_for(worker_class: Any, path: Path) -> None:
    with Client(path, connect_grace=LONG) as client:
        result: list[VmmPing] = []
        thread = threading.Thread(target=lambda: result.append(client.call(Operation.VMM_PING)))
        thread.start()
        with worker_class(path):
            thread.join()
    assert result


def test_a_stopped_worker_is_late_and_not_gone(
    spawn: Callable[[], Process], client: Client
) -> None:
    process = spawn()
    process.stop()
    error = failure(client, Operation.VMM_PING, timeout=0.6)
    assert error.code is ErrorCode.VMM_TIMEOUT
    assert "does not respond" in error.message
    process.go_on()
    assert client.call(Operation.VMM_PING, timeout=LONG)


def test_late_replies_are_dropped_and_the_channel_goes_on(worker_class: Any, path: Path) -> None:
    held: list[Incoming] = []
    peers: set[bytes] = set()

    def answer(server: Server, incoming: Incoming) -> None:
        peers.add(incoming.peer)
        if incoming.operation is not Operation.VMM_PING:
            held.append(incoming)
            return
        for each in held:
            server.fail(each, VmError(code=ErrorCode.INTERNAL, message="much too late"))
        held.clear()
        server.reply(incoming, VmmPing("", "", 1, ()))

    with worker_class(path, answer), Client(path) as client:
        client.call(Operation.VMM_PING, timeout=LONG)
        for _ in range(5):
            error = failure(client, Operation.VM_PAUSE, timeout=0.02)
            assert error.code is ErrorCode.VMM_TIMEOUT
            assert "vm.pause within 0.02 s" in error.message
            assert client.call(Operation.VMM_PING, timeout=LONG).pid == 1
        assert len(peers) == 1


@pytest.mark.usefixtures("worker")
def test_no_time_is_no_call(client: Client) -> None:
    for timeout in (0, -1.0):
        assert failure(client, Operation.VMM_PING, timeout).code is ErrorCode.VMM_TIMEOUT


def test_calls_beyond_the_bound_wait_for_their_turn(
    worker_class: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_CHANNELS", 1)
    taken = threading.Event()
    held: list[Incoming] = []

    def answer(server: Server, incoming: Incoming) -> None:
        if incoming.operation is Operation.VM_PAUSE:
            taken.set()
            held.append(incoming)
        else:
            server.reply(incoming, VmmPing("", "", 1, ()))

    with worker_class(path, answer), Client(path) as client:
        thread = threading.Thread(target=failure, args=(client, Operation.VM_PAUSE, 1.0))
        thread.start()
        assert taken.wait(LONG)
        assert failure(client, Operation.VMM_PING, 0.01).code is ErrorCode.VMM_TIMEOUT
        assert client.call(Operation.VMM_PING, timeout=LONG)
        thread.join()


def test_a_reply_of_another_type_is_told(worker_class: Any, path: Path) -> None:
    def answer(server: Server, incoming: Incoming) -> None:
        server.reply(incoming, {"state": "Confused"})

    with worker_class(path, answer), Client(path) as client:
        for operation in (Operation.VM_INFO, Operation.VM_BOOT, Operation.VMM_PING):
            assert failure(client, operation).code is ErrorCode.MALFORMED_MESSAGE


@pytest.mark.usefixtures("worker")
def test_a_fork_makes_its_own_channels(client: Client) -> None:
    client.call(Operation.VMM_PING)
    parent = os.getpid()
    in_child(lambda: client.call(Operation.VMM_PING, timeout=LONG).pid == parent)
    assert client.call(Operation.VMM_PING)


def test_nothing_is_left_when_clients_are_closed(worker_class: Any, path: Path) -> None:
    def entries(directory: str) -> set[str]:
        return {entry.name for entry in Path(directory).iterdir()}

    with worker_class(path):
        threads, descriptors = entries("/proc/self/task"), entries("/proc/self/fd")
        clients = [Client(path) for _ in range(3)]
        for client in clients:
            client.call(Operation.VMM_PING)
        # A thread that a test before has joined may have been among them, on its way out.
        assert len(entries("/proc/self/task") - threads) == 2
        for client in clients:
            client.close()
            client.close()
        # The worker closes its ends when it hears of it.
        deadline = time.monotonic() + LONG
        while entries("/proc/self/task") - threads or entries("/proc/self/fd") - descriptors:
            assert time.monotonic() < deadline


def test_a_call_that_outlives_the_client_closes_its_channel(worker_class: Any, path: Path) -> None:
    taken = threading.Event()
    held: list[Incoming] = []

    def answer(server: Server, incoming: Incoming) -> None:
        if incoming.operation is Operation.VM_BOOT:
            held.append(incoming)
            taken.set()
        else:
            server.reply(held.pop(), None)
            server.reply(incoming, VmmPing("", "", 1, ()))

    with worker_class(path, answer), Client(path) as other:
        client = Client(path)
        thread = threading.Thread(target=client.call, args=(Operation.VM_BOOT,))
        thread.start()
        assert taken.wait(LONG)
        client.close()
        other.call(Operation.VMM_PING)
        thread.join()


class Liar:
    """Something at the other end that sends what it likes before it answers properly."""

    def __init__(self, path: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.bind(f"ipc://{path}")
        self.says: list[list[bytes]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            peer, data = self._socket.recv_multipart()
            request = msgpack.unpackb(data)
            if request["op"] == Operation.VMM_SHUTDOWN:
                break
            for frames in self.says:
                self._socket.send_multipart([peer, *frames])
            value = {"build_version": "", "version": "", "pid": 1, "features": []}
            reply = {"v": PROTOCOL_VERSION, "id": request["id"], "ok": value}
            self._socket.send_multipart([peer, msgpack.packb(reply)])

    def close(self) -> None:
        self._thread.join()
        self._socket.close()
        self._context.term()


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Liar, Client]]:
    path = tmp_path_factory.mktemp("client") / "vm.ipc"
    liar = Liar(path)
    with Client(path) as client:
        yield liar, client
        failure(client, Operation.VMM_SHUTDOWN, timeout=0.05)
        liar.close()


@given(
    st.lists(
        st.lists(st.binary(max_size=60), min_size=1, max_size=3)
        | PLAIN.map(
            lambda value: [msgpack.packb({"v": PROTOCOL_VERSION, "id": b"12345678", "ok": value})]
        )
    )
)
def test_no_bytes_disturb_the_client(liar: tuple[Liar, Client], says: list[list[bytes]]) -> None:
    liar[0].says = says
    assert liar[1].call(Operation.VMM_PING, timeout=LONG).pid == 1


def test_a_reply_of_another_version_is_told(path: Path) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(f"ipc://{path}")

    def answer() -> None:
        peer, data = router.recv_multipart()
        version = PROTOCOL_VERSION + 1
        reply = {"v": version, "id": msgpack.unpackb(data)["id"], "result": "from the future"}
        router.send_multipart([peer, msgpack.packb(reply)])

    thread = threading.Thread(target=answer)
    thread.start()
    with Client(path) as client:
        assert failure(client, Operation.VMM_PING).code is ErrorCode.PROTOCOL_VERSION
    thread.join()
    router.close()
    context.term()
