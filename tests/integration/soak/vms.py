# SPDX-License-Identifier: Apache-2.0
"""The VMs of a soak, driven over the API, with every answer held against the model."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from tests.integration.soak.host import MEMORY_BYTES, Host
from tests.integration.soak.model import (
    CREATED,
    NOTHING,
    OPERATIONS,
    OUTCOMES,
    RUNNING,
    SHUTDOWN,
    VmModel,
)
from tests.support.http import Response, UnixHTTP

__all__ = ["Vms"]

_DEADLINE: Final = 300.0
"""Seconds for a worker to come back, or a guest to power off."""
_TIMEOUT: Final = 504
_ALL: Final = (*OPERATIONS, "vm.power-button", "kill")
_LIKELY: Final = {"kill": 2, "vm.delete": 3, "vm.counters": 3}
"""Weights of what is done less often than the rest."""
_USUAL: Final = 8
_WEIGHTS: Final = tuple(_LIKELY.get(each, _USUAL) for each in _ALL)
_KILLS_APART: Final = 20.0
"""Seconds for one VM: systemd gives up on a unit that dies five times in a minute."""
_UNAVAILABLE: Final = "Unavailable"
"""What ``vmm.list`` has of a worker that is being replaced."""
_NO_ANSWER: Final = frozenset((_UNAVAILABLE, "Unresponsive"))
"""That, or one that had not the time to answer on a slow processor."""


class Vms:
    """The VMs, and what is done to them.

    Args:
        host: Where they run.
        models: What is known of them.
    """

    def __init__(self, host: Host, models: Sequence[VmModel]) -> None:
        self.models = models
        self.done: Counter[str] = Counter()
        """What was done, how often."""
        self._host = host

    def http(self, name: str = "localhost") -> UnixHTTP:
        """Return a connection, for the requests that follow each other at once."""
        return UnixHTTP(self._host.socket, host=name, timeout=_DEADLINE)

    def turn(self, random: Random) -> None:
        """Take a VM that nobody else has, and do something to it, possible or not."""
        model = random.choice(self.models)
        if not model.busy.acquire(blocking=False):
            return
        try:
            (operation,) = random.choices(_ALL, _WEIGHTS)
            if operation == "kill":
                self.kill(model)
            elif operation == "vm.power-button":
                self.power_off(model)
            else:
                self.perform(model, operation)
        finally:
            model.busy.release()

    def perform(self, model: VmModel, operation: str) -> None:
        """Ask for an operation, and look whether it did what it should, and only that."""
        expected = OUTCOMES[operation][model.state]
        with self.http(model.name) as http:
            model.begin(expected.state)
            body = self._host.config(model.name) if operation == "vm.create" else None
            if operation == "vm.counters":
                answer = self._read(model, http, operation)
            else:
                answer = self._request(model, http, "PUT", operation, body)
            code = answer.json["code"] if answer.status >= 400 else None
            if (answer.status, code) != (expected.status, expected.code):
                raise model.wrong(
                    f"{operation} of a VM that is {model.state}: {answer.status} {answer.body!r}"
                )
            boots = model.boots + expected.boots
            model.settle(expected.state, 0 if expected.state == NOTHING else boots)
            self._look(model, http)

    def power_off(self, model: VmModel) -> None:
        """Press the button of a guest that runs, and wait until it has powered off."""
        if model.state != RUNNING:
            return
        with self.http(model.name) as http:
            model.begin(SHUTDOWN)
            answer = self._request(model, http, "PUT", "vm.power-button")
            if answer.status != 204:
                raise model.wrong(f"vm.power-button: {answer.status} {answer.body!r}")
            self._await(model, http, SHUTDOWN, before={RUNNING})
            model.settle(SHUTDOWN, model.boots)
            self._look(model, http)

    def kill(self, model: VmModel) -> None:
        """Kill the worker, and wait until the next one is where it begins."""
        if time.monotonic() < model.killed_at + _KILLS_APART:
            return
        model.killed_at = time.monotonic()
        model.begin(NOTHING, CREATED, RUNNING, *_NO_ANSWER)
        model.note("kill -9")
        self.done["kill -9"] += 1
        self._host.kill(model.name)
        begins = RUNNING if model.configured else NOTHING
        with self.http(model.name) as http:
            self._await(model, http, begins, before={_UNAVAILABLE, NOTHING, CREATED})
            model.settle(begins, 1 if model.configured else 0)
            self._look(model, http)

    def rest(self, model: VmModel) -> None:
        """Take a VM through its life once, and leave its worker without one."""
        with model.busy:
            for operation in ("vm.delete", "vm.create", "vm.boot", "vm.pause", "vm.resume"):
                self.perform(model, operation)
            self.power_off(model)
            self.perform(model, "vm.delete")

    def begin(self, model: VmModel) -> None:
        """Wait for a worker that was just started."""
        begins = RUNNING if model.configured else NOTHING
        with model.busy, self.http(model.name) as http:
            model.begin(NOTHING, CREATED, RUNNING, *_NO_ANSWER)
            self._await(model, http, begins, before={_UNAVAILABLE, NOTHING, CREATED})
            model.settle(begins, 1 if model.configured else 0)

    def compare_list(self) -> None:
        """Hold ``vmm.list`` against all that nobody changed meanwhile."""
        before = [model.seen() for model in self.models]
        with self.http() as http:
            answer = http.get("/api/v1/vmm.list")
        self.done["vmm.list"] += 1
        if answer.status != 200:
            raise AssertionError(f"vmm.list: {answer.status} {answer.body!r}")
        shown = {each["name"]: each["state"] for each in answer.json}
        for model, seen in zip(self.models, before, strict=True):
            state = shown.get(model.name)
            if model.seen() != seen or state in seen[1]:
                continue
            if state in _NO_ANSWER:
                self.done["not answered in time for vmm.list"] += 1
                continue
            raise model.wrong(f"vmm.list shows it as {state}, not as {', '.join(seen[1])}")

    def _await(self, model: VmModel, http: UnixHTTP, state: str, before: set[str]) -> None:
        """Ask until the state is this one; until then it may be one of those."""
        deadline = time.monotonic() + _DEADLINE
        while (now := _state(model, self._read(model, http, "vm.info"))) != state:
            if now not in before:
                raise model.wrong(f"it is {now} on its way to {state}")
            if time.monotonic() > deadline:
                raise model.wrong(f"it is still {now} after {_DEADLINE:g} s, not {state}")
            time.sleep(0.05)

    def _look(self, model: VmModel, http: UnixHTTP) -> None:
        """Hold ``vm.info`` against the model."""
        answer = self._read(model, http, "vm.info")
        state = _state(model, answer)
        if state != model.state:
            raise model.wrong(f"vm.info says it is {state}, not {model.state}")
        if state == NOTHING:
            return
        shown = (answer.json.get("boots", 0), answer.json["memory_actual_size"])
        if shown != (model.boots, MEMORY_BYTES):
            raise model.wrong(f"vm.info has {shown} boots and bytes, not {model.boots} boots")

    def _read(self, model: VmModel, http: UnixHTTP, operation: str) -> Response:
        """Ask for what changes nothing, again while a slow processor leaves no time to answer."""
        deadline = time.monotonic() + _DEADLINE
        while (answer := self._request(model, http, "GET", operation)).status == _TIMEOUT:
            self.done[f"not answered in time for {operation}"] += 1
            if time.monotonic() > deadline:
                raise model.wrong(f"{operation} was not answered within {_DEADLINE:g} s")
        return answer

    def _request(
        self, model: VmModel, http: UnixHTTP, method: str, operation: str, body: Any = None
    ) -> Response:
        answer = http.request(method, f"/api/v1/{operation}", body)
        model.note(f"{operation}: {answer.status} {answer.body[:200]!r}")
        self.done[operation] += 1
        return answer


def _state(model: VmModel, answer: Response) -> str:
    """Return what an answer to ``vm.info`` says of the state."""
    if answer.status == 200:
        state: str = answer.json["state"]
        return state
    code = answer.json["code"]
    if (answer.status, code) == (404, "vm_not_created"):
        return NOTHING
    if (answer.status, code) == (503, "vmm_unavailable"):
        return _UNAVAILABLE
    raise model.wrong(f"vm.info: {answer.status} {answer.body!r}")
