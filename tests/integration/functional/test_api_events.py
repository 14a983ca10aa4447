# SPDX-License-Identifier: Apache-2.0
"""``GET vmm.events``: many readers, slow ones, and workers and servers that go away."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api_server.streams import MAX_READERS
from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.messages import Operation
from ipc_protocol.monitor import EventBatch, MonitorEvent, Timestamp
from ipc_protocol.names import ipc_path
from ipc_protocol.server import Incoming
from tests.support.api import SILENCE, ApiProcess, Peer
from tests.support.events import EventStream
from tests.support.processes import DEADLINE, Worker, eventually, start_worker, vm_config

THREADS = 32
AT_ONCE = THREADS // 2
"""Threads that one worker may have while others have nothing to do."""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiProcess]:
    with ApiProcess(tmp_path, "--threads", THREADS) as api:
        yield api
        assert "Traceback" not in api.read_log()


def happen(worker: Worker, times: int = 1, *, size: int = 10) -> None:
    """Have events told, three a time and of a size, on a host without KVM as well."""
    for number in range(times):
        worker.call("vm.create", vm_config(f"/nonexistent/{number:04}{'x' * size}"))
        with contextlib.suppress(VmFailure):
            worker.call("vm.boot")
        worker.call("vm.delete")


def child_of(api: ApiProcess) -> int:
    (child,) = Path(f"/proc/{api.pid}/task/{api.pid}/children").read_text().split()
    return int(child)


def test_a_stream_has_what_happens_from_its_head_on(worker: Worker, api: ApiProcess) -> None:
    with EventStream(api.socket) as stream:
        stream.begin()
        happen(worker)
        events = stream.until("vm.deleted")
        assert [each.name for each in events] == ["vm.booting", "vm.boot-failed", "vm.deleted"]
        epochs, numbers = zip(*((each.id or "").split("-") for each in events), strict=True)
        assert len(set(epochs)) == 1
        assert numbers == ("2", "3", "4")
        for each in events:
            assert list(each.data) == ["timestamp", "source", "event", "properties"]
            assert f"{each.data['source']}.{each.data['event']}" == each.name


def test_a_reader_goes_on_where_it_was(worker: Worker, api: ApiProcess) -> None:
    with EventStream(api.socket) as stream:
        stream.begin()
        happen(worker)
        first = stream.until("vm.boot-failed")
    happen(worker, 3)
    with EventStream(api.socket, last=first[-1].id) as stream:
        stream.begin()
        following = [event for _ in range(4) for event in stream.until("vm.deleted")]
    epoch = (first[-1].id or "").split("-")[0]
    assert [each.id for each in following] == [f"{epoch}-{number}" for number in range(4, 14)]


def test_a_reader_that_comes_back_too_late_is_told_what_it_lost(
    worker: Worker, api: ApiProcess
) -> None:
    with EventStream(api.socket) as stream:
        stream.begin()
        happen(worker)
        last = stream.until("vm.deleted")[-1].id or ""
    happen(worker, 400)
    with EventStream(api.socket, last=last) as stream:
        stream.begin()
        lost = stream.next()
        assert lost is not None
        assert (lost.id, lost.name) == (None, "velum.lost")
        properties = lost.data["properties"]
        assert (properties["after"], properties["reason"]) == (last, "too_far_behind")
        event = stream.next()
        assert event is not None
        assert event.id == f"{last.split('-')[0]}-{5 + int(properties['events'])}"
        count = sum(1 for _ in range(1023) if stream.next())
        assert count == 1023


def test_a_hundred_readers_hold_no_thread(worker: Worker, api: ApiProcess) -> None:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(EventStream(api.socket)).begin() for _ in range(100)]
        peer = stack.enter_context(Peer(ipc_path(api.runtime_dir, "web-1")))
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        held = []
        everyone = threading.Event()

        def hold(incoming: object) -> object:
            held.append(incoming)
            if len(held) == AT_ONCE:
                everyone.set()
            return SILENCE

        peer.answers[Operation.VM_COUNTERS] = hold

        def ask() -> int:
            with api.http(host="web-1") as http:
                return http.get("/api/v1/vm.counters").status

        waiting = [pool.submit(ask) for _ in range(AT_ONCE)]
        assert everyone.wait(DEADLINE), "a thread for each"
        happen(worker)
        for stream in streams:
            assert len(stream.until("vm.deleted")) == 3
        for incoming in held:
            peer.server.reply(incoming, {})
        assert [each.result() for each in waiting] == [200] * AT_ONCE
        with api.http() as http:
            page = http.get("/metrics").body.decode()
        assert 'velum_api_connections{state="streaming"} 100.0' in page


def test_no_more_readers_than_may(worker: Worker, api: ApiProcess) -> None:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(EventStream(api.socket)).begin() for _ in range(MAX_READERS)]
        answer = api.request("GET", "vmm.events")
        assert (answer.status, answer.json["code"]) == (503, "too_many_readers")
        assert int(answer.headers["retry-after"]) > 0
        streams[7].socket.close()

        def again() -> bool:
            with EventStream(api.socket) as stream:
                return " 200 " in stream.read_head().partition("\r\n")[0]

        eventually(again, "there is room again")
        happen(worker)
        assert len(streams[-1].until("vm.deleted")) == 3


def test_who_does_not_read_is_dropped_and_nobody_waits_for_it(tmp_path: Path) -> None:
    with (
        start_worker(tmp_path) as worker,
        ApiProcess(tmp_path, "--client-timeout", 1) as api,
        EventStream(api.socket) as slow,
        EventStream(api.socket) as fast,
    ):
        slow.begin()
        fast.begin()
        for _ in range(20):
            happen(worker, 10, size=3000)
            assert all(fast.next() for _ in range(30))
        eventually(lambda: "reads nothing for 1 s" in api.read_log(), "the slow one is dropped")
        received = list(slow.rest())
        assert len(received) < 600
        assert not slow.ended
        happen(worker)
        assert len(fast.until("vm.deleted")) == 3


def test_a_slow_reader_misses_nothing_if_it_reads_on(tmp_path: Path) -> None:
    with (
        start_worker(tmp_path) as worker,
        ApiProcess(tmp_path, "--client-timeout", DEADLINE) as api,
        EventStream(api.socket) as slow,
    ):
        slow.begin()
        happen(worker, 300, size=3000)
        numbers = []
        while len(numbers) < 900:
            event = slow.next()
            assert event is not None
            assert event.id is not None
            numbers.append(int(event.id.split("-")[1]))
        assert numbers == list(range(2, 902))


def test_streams_outlive_a_killed_worker(tmp_path: Path, api: ApiProcess) -> None:
    with start_worker(tmp_path) as worker:
        stream = EventStream(api.socket).begin()
        happen(worker)
        last = stream.until("vm.deleted")[-1]
        worker.process.send_signal(signal.SIGKILL)
        worker.wait()
    away = stream.next()
    assert away is not None
    assert (away.id, away.name, away.data["source"]) == (None, "velum.worker-away", "velum")
    assert api.request("GET", "vmm.events").status == 503
    with start_worker(tmp_path) as worker, stream:
        names = [each.name for each in stream.until("vmm.starting")]
        assert names == ["velum.worker-back", "velum.lost", "vmm.starting"]
        happen(worker)
        assert len(stream.until("vm.deleted")) == 3
        with EventStream(api.socket, last=last.id) as late:
            lost = late.begin().next()
            assert lost is not None
            assert lost.data["properties"] == {"after": last.id, "reason": "worker_restarted"}
            assert late.until("vm.deleted")[0].name == "vmm.starting"


def test_the_last_event_of_a_worker_is_its_end(tmp_path: Path, api: ApiProcess) -> None:
    with start_worker(tmp_path) as worker, EventStream(api.socket) as stream:
        stream.begin()
        happen(worker)
        stream.until("vm.deleted")
        worker.call("vm.create", vm_config("/nonexistent"))
        worker.call("vmm.shutdown")
        assert worker.wait() == 0
        names = [each.name for each in stream.until("velum.worker-away")]
        assert names == ["vm.deleted", "vmm.shutdown", "velum.worker-away"]


def test_the_end_of_the_server_is_the_end_of_the_stream(worker: Worker, api: ApiProcess) -> None:
    with EventStream(api.socket) as stream, EventStream(api.socket, version="1.0") as old:
        stream.begin()
        old.begin()
        happen(worker)
        assert len(stream.until("vm.deleted")) == 3
        assert len(old.until("vm.deleted")) == 3
        assert api.stop() == 0
        assert list(stream.rest()) == []
        assert stream.ended
        assert list(old.rest()) == []


def test_a_new_serving_process_has_streams_of_its_own(worker: Worker, api: ApiProcess) -> None:
    with EventStream(api.socket) as stream:
        stream.begin()
        child = child_of(api)
        os.kill(child, signal.SIGKILL)
        assert list(stream.rest()) == []
        assert not stream.ended

    def serves() -> bool:
        try:
            return child_of(api) != child and api.request("GET", "vmm.ping").status == 200
        except (OSError, ValueError):
            return False

    eventually(serves, "another process serves")
    with EventStream(api.socket) as stream:
        stream.begin()
        happen(worker)
        assert len(stream.until("vm.deleted")) == 3


def test_each_host_has_its_own_events(worker: Worker, api: ApiProcess) -> None:
    with (
        start_worker(api.runtime_dir, name="web-1") as other,
        EventStream(api.socket) as here,
        EventStream(api.socket, host="web-1") as there,
    ):
        here.begin()
        there.begin()
        happen(other)
        happen(worker, 2)
        there.until("vm.deleted")
        here.until("vm.deleted")
        assert (here.until("vm.deleted")[-1].id or "").endswith("-7")
        happen(other)
        assert (there.until("vm.deleted")[-1].id or "").endswith("-7")


@pytest.mark.parametrize(
    ("last", "detail"),
    [
        ("7", "no id of an event"),
        ("zzzzzzzzzzzzzzzz-1", "no id of an event"),
        ("0123456789abcdef-01", "no id of an event"),
        ("0123456789abcdef-99999999999999999999", "no id of an event"),
    ],
)
def test_an_id_that_is_none(worker: Worker, api: ApiProcess, last: str, detail: str) -> None:
    del worker
    answer = api.request("GET", "vmm.events", headers={"Last-Event-ID": last})
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert detail in answer.json["detail"]


def test_an_event_that_has_not_happened(worker: Worker, api: ApiProcess) -> None:
    with EventStream(api.socket) as stream:
        stream.begin()
        happen(worker)
        (epoch, number) = (stream.until("vm.deleted")[-1].id or "").split("-")
    later = f"{epoch}-{int(number) + 1}"
    answer = api.request("GET", "vmm.events", headers={"Last-Event-ID": later})
    assert answer.status == 400
    assert f"{later} has not happened" in answer.json["detail"]


def test_the_head_of_a_stream_alone(worker: Worker, api: ApiProcess) -> None:
    del worker
    with api.http() as http:
        for _ in range(2):
            answer = http.request("HEAD", "/api/v1/vmm.events")
            assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
            assert answer.body == b""
        assert http.get("/api/v1/vmm.ping").status == 200


def test_what_is_said_before_a_stream_begins(api: ApiProcess) -> None:
    assert api.request("GET", "vmm.events").json["code"] == "vmm_unavailable"
    answer = api.request("GET", "vmm.events", headers={"Host": "web-9"})
    assert (answer.status, answer.json["code"]) == (404, "vm_unknown")
    assert api.request("PUT", "vmm.events").status == 405
    assert api.request("GET", "vmm.events", b"[1]").status == 400


def test_answers_before_a_stream_come_before_it(worker: Worker, api: ApiProcess) -> None:
    with EventStream(api.socket) as stream:
        stream.begin()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(DEADLINE)
        client.connect(str(api.socket))
        ping = b"GET /api/v1/vmm.ping HTTP/1.1\r\n\r\n"
        client.sendall(ping + b"GET /api/v1/vmm.events HTTP/1.1\r\n\r\n" + ping)
        data = b""
        while b"retry: 1000" not in data:
            data += client.recv(1 << 16)
        assert data.index(b'"version"') < data.index(b"text/event-stream")
        happen(worker)
        while b"vm.deleted" not in data:
            data += client.recv(1 << 16)
        assert data.count(b"HTTP/1.1 200") == 2


def test_a_worker_that_refuses_is_asked_again_and_not_all_the_time(
    tmp_path: Path, api: ApiProcess
) -> None:
    start = EventBatch("0123456789abcdef", time.monotonic_ns(), 0)
    starting = MonitorEvent(Timestamp(0, 0), "vmm", "starting", seq=1)
    with Peer(ipc_path(tmp_path, "default")) as peer:
        asked = 0

        def answer(incoming: Incoming) -> object:
            nonlocal asked
            if not incoming.body.wait_ms:
                return start
            asked += 1
            if asked < 3:
                return VmError(code=ErrorCode.UNKNOWN_OPERATION, message="not yet")
            return (
                EventBatch(start.epoch, start.started_ns, 1, (starting,)) if asked == 3 else SILENCE
            )

        peer.answers[Operation.VMM_EVENTS] = answer
        with EventStream(api.socket) as stream:
            stream.begin()
            assert [each.name for each in stream.until("vmm.starting")] == ["vmm.starting"]
        assert api.read_log().count("does not tell its events: not yet") == 1
