# SPDX-License-Identifier: Apache-2.0
"""The events of a worker and its VM: which there are, in what order, and who gets them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ipc_protocol.client import Client
from ipc_protocol.errors import VmFailure
from ipc_protocol.messages import Operation, VmState
from ipc_protocol.monitor import EventBatch, EventsQuery, MonitorEvent
from tests.support.guests import build
from tests.support.processes import Worker, eventually, start_worker, vm_config

pytestmark = pytest.mark.kvm

PANIC = {"pvpanic": True}


def ask(worker: Worker, query: EventsQuery) -> EventBatch:
    batch = worker.call("vmm.events", query)
    assert isinstance(batch, EventBatch)
    return batch


def told(worker: Worker) -> list[MonitorEvent]:
    return list(ask(worker, EventsQuery(None, 0)).events)


def names(events: list[MonitorEvent], source: str = "vm") -> list[str]:
    return [each.event for each in events if each.source == source]


def test_the_life_of_a_vm(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("hello"), balloon={"size": 0}))
    for operation in ("boot", "pause", "resume", "reboot"):
        worker.call(f"vm.{operation}")
    worker.call("vm.resize", {"desired_balloon": 0})
    worker.call("vm.shutdown")
    worker.call("vm.resize", {"desired_balloon": 0})
    worker.call("vm.delete")
    worker.call("vm.delete")
    events = told(worker)
    assert names(events, "vmm") == ["starting"]
    assert names(events) == [
        *("booting", "booted", "pausing", "paused", "resuming", "resumed"),
        *("rebooting", "booting", "booted", "rebooted", "resizing", "resized"),
        *("shutdown", "deleted"),
    ]


def test_a_boot_that_fails(worker: Worker) -> None:
    worker.call("vm.create", vm_config("/nonexistent"))
    worker.error("vm.boot")
    booting, failed = told(worker)[1:]
    assert (booting.event, failed.event) == ("booting", "boot-failed")
    assert "/nonexistent" in (failed.properties or {})["reason"]


def test_what_a_guest_does(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("panic"), **PANIC))
    worker.call("vm.boot")
    worker.wait_for(state=VmState.SHUTDOWN)
    events = told(worker)
    assert [each.properties for each in events if each.source == "guest"] == [
        {"event": "crash_loaded"}
    ]
    assert names(events) == ["booting", "booted", "shutdown"]


def test_what_a_guest_s_drivers_do(worker: Worker, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    worker.call(
        "vm.create", vm_config(build("disk"), disks=[{"path": str(disk), "image_type": "Raw"}])
    )
    worker.call("vm.boot")

    def activated() -> list[MonitorEvent]:
        return [each for each in told(worker) if each.source == "virtio-device"]

    eventually(activated, "the driver takes the disk into use")
    assert {each.event for each in activated()} <= {"activated", "reset"}
    assert {"id": "_disk0"} in [each.properties for each in activated()]


def test_who_asks_is_answered_as_it_happens_and_sees_what_is_so(worker: Worker) -> None:
    worker.call("vm.create", vm_config(build("hello")))
    worker.call("vm.boot")
    position = ask(worker, EventsQuery())
    query = EventsQuery(position.epoch, position.last + 1, 30_000)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, worker, query) for _ in range(2)]
        worker.call("vm.pause")
        for each in waiting:
            assert each.result().events[0].event == "paused"
            assert worker.info().state is VmState.PAUSED


def test_a_question_that_makes_no_sense(worker: Worker) -> None:
    for body in (None, {"after": -1}, {"wait_ms": 30_001}, {"since": 3}, {"after": 1 << 63}, []):
        with pytest.raises(VmFailure):
            worker.client.call("vmm.events", body)  # type: ignore[arg-type]
    assert worker.call("vmm.ping").pid == worker.pid


def written(path: Path) -> Iterator[dict[str, Any]]:
    text = path.read_text()
    assert text.endswith("}\n\n")
    yield from (json.loads(part) for part in text.split("\n\n") if part)


def test_the_event_monitor_file_has_it_all_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "events"
    command = ("--event-monitor", f"path={path}", "--kernel", build("poweroff"))
    with start_worker(tmp_path, *command, "--memory", "size=16M", ready=False) as worker:
        assert worker.wait() == 0
    events = [f"{each['source']}.{each['event']}" for each in written(path)]
    assert events == [
        *("vmm.starting", "vm.booting", "vm.booted"),
        *("vm.shutdown", "vm.deleted", "vmm.shutdown"),
    ]


def test_the_event_monitor_descriptor_is_never_waited_for(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    try:
        options = {"pass_fds": (writing,)}
        ipc = tmp_path / "default.ipc"
        command = ("--ipc", ipc, "--shutdown-timeout", 0, "--event-monitor", f"fd={writing}")
        with Worker(ipc, *command, log=tmp_path / "log", **options) as worker:
            os.close(writing)
            writing = -1
            worker.wait_until_ready()
            worker.call("vm.create", vm_config(build("hello")))
            worker.call("vm.boot")
            for _ in range(20):
                worker.call("vm.pause")
                worker.call("vm.resume")
            assert worker.call("vmm.ping").pid == worker.pid
            first = os.read(reading, 1 << 20)
            assert json.loads(first.split(b"\n\n")[0])["event"] == "starting"
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("path=/nonexistent/x", "--event-monitor path=/nonexistent/x: it cannot be written to: No"),
        ("fd=99", "--event-monitor fd=99: it cannot be written to: Bad file descriptor"),
        ("", "expected either path=FILE or fd=N"),
        ("path=a,fd=3", "expected either path=FILE or fd=N"),
        ("file=a", "unknown key 'file'"),
    ],
)
def test_an_event_monitor_that_cannot_be(tmp_path: Path, option: str, complaint: str) -> None:
    with start_worker(tmp_path, "--event-monitor", option, ready=False) as worker:
        assert worker.wait() in (1, 2)
        assert complaint in worker.read_log()


def test_the_end_of_the_worker_is_the_last_event_a_reader_gets(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker, Client(worker.ipc) as reader:
        seen: list[str] = []

        def follow() -> None:
            epoch, after = ask(worker, EventsQuery()).epoch, 0
            while "vmm.shutdown" not in seen:
                batch = reader.call(Operation.VMM_EVENTS, EventsQuery(epoch, after, 30_000))
                seen.extend(f"{each.source}.{each.event}" for each in batch.events)
                after = batch.last

        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(follow)
            worker.call("vm.create", vm_config("/nonexistent"))
            worker.call("vm.delete")
            eventually(lambda: "vm.deleted" in seen, "the reader follows")
            worker.call("vm.create", vm_config("/nonexistent"))
            worker.call("vmm.shutdown")
            following.result()
        assert seen == ["vmm.starting", "vm.deleted", "vm.deleted", "vmm.shutdown"]
