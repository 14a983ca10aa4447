# SPDX-License-Identifier: Apache-2.0
"""What every test is run with: tiers that skip loudly, leak checks, a watchdog."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

KVM = "/dev/kvm"
VIRTUALIZATION_FLAGS = {"vmx", "svm"}
WATCHDOG_GRACE = 30.0


def _kvm_problem() -> str | None:
    """Say why the tests of tier kvm cannot run here."""
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as ex:
        return f"needs to open {KVM} for reading and writing: {ex.strerror}"
    return None


def _linux_problem() -> str | None:
    """Say why the tests of tier linux cannot run here."""
    flags: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split())
            break
    if not flags & VIRTUALIZATION_FLAGS:
        return "needs a CPU with VMX or SVM (or the testbed: make test)"
    return _kvm_problem()


@functools.cache
def _systemd_problem() -> str | None:
    """Say why the tests of tier systemd could not run here at first; they remove the package."""
    if Path("/proc/1/comm").read_text().strip() != "systemd" or os.geteuid() != 0:
        return "needs to be root where systemd is process 1 (the testbed: make test TIERS=systemd)"
    if not Path("/usr/bin/velum-vmm").exists():
        return "needs Velum's package to be installed, which the testbed does"
    return None


def pytest_configure() -> None:
    """Have Ctrl-C end what tests start: a shell has what it runs behind it ignore that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


TIERS: dict[str, tuple[str, Callable[[], str | None]]] = {
    "kvm": ("VELUM_REQUIRE_KVM", _kvm_problem),
    "linux": ("VELUM_REQUIRE_LINUX", _linux_problem),
    "systemd": ("VELUM_REQUIRE_SYSTEMD", _systemd_problem),
}


@pytest.fixture(autouse=True)
def _tier(request: pytest.FixtureRequest) -> None:
    """Skip what cannot run here, saying what it needs; fail where it must run."""
    for tier, (variable, problem_of) in TIERS.items():
        if request.node.get_closest_marker(tier) is None:
            continue
        problem = problem_of()
        if problem is None:
            continue
        if os.environ.get(variable) == "1":
            pytest.fail(f"{variable}=1, and the test {problem}", pytrace=False)
        pytest.skip(problem)


def _descriptors() -> dict[str, str]:
    found = {}
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found[fd.name] = str(fd.readlink())
    return found


def _threads() -> dict[str, str]:
    found = {}
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found[thread.name] = (thread / "comm").read_text().strip()
    return found


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest, _tier: None) -> Iterator[None]:
    """Fail a test that leaves a file descriptor or a thread behind it."""
    if not any(request.node.get_closest_marker(tier) for tier in TIERS):
        yield
        return
    before = (_descriptors(), _threads())
    yield
    deadline = time.monotonic() + 5.0
    while True:
        now = (_descriptors(), _threads())
        leaks = [new.items() - old.items() for new, old in zip(now, before, strict=True)]
        if not any(leaks):
            return
        if time.monotonic() > deadline:
            break
        gc.collect()
        time.sleep(0.01)
    pytest.fail(f"left open: {sorted(leaks[0])}; left running: {sorted(leaks[1])}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the process, with every thread's traceback, when a test hangs in C.

    pytest-timeout raises in the main thread, which does not help while that waits in a C
    function.
    """
    marker = item.get_closest_marker("timeout")
    timeout = float(marker.args[0] if marker else item.config.getini("timeout") or 0)
    if not timeout:
        return (yield)
    faulthandler.dump_traceback_later(
        timeout + WATCHDOG_GRACE, exit=True, file=item.config.stash[fault_handler_stderr_fd_key]
    )
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
