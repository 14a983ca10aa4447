# SPDX-License-Identifier: Apache-2.0
"""System calls of a worker: its rules are those it needs, and others are its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from kvm_shim import seccomp
from kvm_shim.seccomp import Kind, Mode, Seen
from tests.support.full_run import SCENARIOS, Start
from tests.support.guests import build
from tests.support.network import namespace_problem, own_network
from tests.support.processes import Worker, eventually, make_file, start_worker, vm_config
from tests.support.system_calls import tracer, use_of
from tests.support.threads import open_from_threads
from vmm_worker.landlock import landlock_version

pytestmark = pytest.mark.kvm

_ENDED: Final = re.compile(r"exit_group\(|\+\+\+ killed ")
_TAIL: Final = 4096


def has_ring() -> bool:
    """Tell whether this host lets a process have an io_uring."""
    setting = Path("/proc/sys/kernel/io_uring_disabled")
    return not setting.exists() or setting.read_text().strip() == "0"


AVAILABLE: Final[dict[Seen, Callable[[], bool]]] = {
    Seen.ALWAYS: lambda: True,
    Seen.TAP: lambda: namespace_problem() is None,
    Seen.VHOST: lambda: Path("/dev/vhost-net").exists() and namespace_problem() is None,
    Seen.URING: has_ring,
    Seen.LANDLOCK: lambda: landlock_version() > 0,
}
"""What a run has to have for rules that are marked so to be used."""


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Trace workers that do everything."""
    found: list[Path] = []

    def starter(trace: Path) -> Start:
        def start(folder: Path, *arguments: object, **more: object) -> Worker:
            found.append(trace.with_suffix(f".{len(found)}"))
            return start_worker(folder, *arguments, under=tracer(found[-1]), **more)  # type: ignore[arg-type]

        return start

    for scenario in SCENARIOS:
        if scenario.__name__ == "net" and not AVAILABLE[Seen.TAP]():
            continue
        folder = tmp_path_factory.mktemp(scenario.__name__)
        if scenario.__name__ == "net":
            with own_network():
                scenario(starter(folder / "trace"), folder)
        else:
            scenario(starter(folder / "trace"), folder)
    for trace in found:
        eventually(lambda trace=trace: _is_complete(trace), f"{trace} is complete")
    return found


def _is_complete(trace: Path) -> bool:
    with trace.open("rb") as file:
        file.seek(max(0, trace.stat().st_size - _TAIL))
        return _ENDED.search(file.read().decode(errors="replace")) is not None


@pytest.mark.timeout(900)
def test_a_full_run_uses_every_rule_and_needs_no_other(traces: list[Path]) -> None:
    use = use_of(traces)
    assert use.missing == set()
    unused, stale = [], []
    for place, rule in enumerate(seccomp.rules()):
        used = {kind for kind in rule.kinds if (place, kind) in use.used}
        what = f"{rule.call} {[hex(test.value or 0) for test in rule.tests]}: {rule.why}"
        available = AVAILABLE.get(rule.seen)
        if available is None:
            # Both depend on time or on the guest; what every run shows is no such thing.
            if rule.seen is Seen.LINUX and used:
                stale.append(what)
        elif not available():
            continue
        elif rule.seen is Seen.VHOST:
            if not used:
                unused.append(what)
        elif used != rule.kinds:
            unused.append(f"{what}: not by {sorted(kind.name for kind in rule.kinds - used)}")
    assert unused == []
    assert stale == []


def test_each_thread_has_the_filters_of_its_kind(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker:
        boot_all(worker, tmp_path)
        found = {}
        for task in Path(f"/proc/{worker.pid}/task").iterdir():
            status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            assert status["NoNewPrivs"].strip() == "1"
            assert status["Seccomp"].strip() == "2"
            found[status["Name"].strip()] = int(status["Seccomp_filters"])
    own = {name: number for name, number in found.items() if is_ours(name)}
    assert {"vcpu0", "vcpu1", "serial-io", "rng", "_disk0-q0", "vsock-io", "balloon"} <= own.keys()
    inherited = {number for name, number in found.items() if name.startswith("ZMQbg")}
    assert len(inherited) == 1
    assert set(own.values()) == {inherited.pop() + 1}


def is_ours(name: str) -> bool:
    """Tell whether the C core started a thread."""
    pattern = r"vcpu\d+|(serial|console|vsock|watchdog)-io|rng|balloon|pmem|.*-q\d+"
    return re.fullmatch(pattern, name) is not None


def boot_all(worker: Worker, folder: Path) -> None:
    """Boot a VM with a device of every kind that needs no right."""
    config = vm_config(
        build("echo"),
        cpus={"boot_vcpus": 2, "max_vcpus": 2},
        disks=[{"path": make_file(folder / "disk", 1 << 20)}],
        pmem=[{"file": make_file(folder / "pmem", 2 << 20)}],
        vsock={"cid": 3, "socket": str(folder / "vsock.sock")},
        balloon={"size": 0},
        watchdog=True,
        serial={"mode": "File", "file": str(folder / "serial")},
        console={"mode": "File", "file": str(folder / "console")},
    )
    worker.call("vm.create", config)
    worker.call("vm.boot")


@pytest.mark.parametrize("name", ["vcpu0", "serial-io", "_disk0-q0", "rng", "vsock-io", "balloon"])
def test_a_thread_that_opens_a_file_ends_the_worker(tmp_path: Path, name: str) -> None:
    with start_worker(tmp_path) as worker:
        boot_all(worker, tmp_path)
        with pytest.raises(subprocess.CalledProcessError):
            open_from_threads(worker.pid, os.O_RDONLY, Path("/etc/hostname"), only=name)
        assert worker.wait() == -signal.SIGSYS


def test_a_thread_of_python_opens_files(tmp_path: Path) -> None:
    with start_worker(tmp_path) as worker:
        boot_all(worker, tmp_path)
        opened = open_from_threads(
            worker.pid, os.O_RDONLY, Path("/etc/hostname"), only="operations"
        )
        assert all(each.errno == 0 for each in opened)
        assert worker.call("vmm.ping").pid == worker.pid


FORBIDDEN: Final = {
    "execve": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "ptrace": "libc.ptrace(0, 0, 0, 0)",
    "kill": "os.kill(os.getppid(), 0)",
    "kill_thread": "libc.tgkill(os.getppid(), os.getppid(), 0)",
    "packet_socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "internet_stream": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "code": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "mount": "libc.mount(0, 0, 0, 0, 0)",
    "unknown_ioctl": "fcntl.ioctl(1, 0x5412, b'x')",  # TIOCSTI
    "bpf": "libc.syscall(321, 0, 0, 0)",
    "x32": "libc.syscall(0x40000000 | 39)",
}
"""What a process that was taken over could want to do."""

_PROGRAM: Final = """
import ctypes, fcntl, mmap, os, socket, sys
from kvm_shim import seccomp
libc = ctypes.CDLL(None)
seccomp.enter(seccomp.Mode[sys.argv[1]])
os.write(1, b"in\\n")
try:
    {0}
except (OSError, ValueError):
    pass
os.write(1, b"out\\n")
os._exit(0)
"""


def run_confined(mode: Mode, statement: str) -> subprocess.CompletedProcess[bytes]:
    """Run a statement in a process that is confined as a worker is."""
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(statement), mode.name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("statement", FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_no_rule_allows_ends_the_process(statement: str) -> None:
    result = run_confined(Mode.KILL, statement)
    assert (result.stdout, result.returncode) == (b"in\n", -signal.SIGSYS)


def test_what_no_rule_allows_is_made_where_it_is_only_logged() -> None:
    result = run_confined(Mode.LOG, FORBIDDEN["internet_stream"])
    assert (result.stdout, result.returncode) == (b"in\nout\n", 0)


def test_a_worker_says_that_it_is_not_confined(tmp_path: Path) -> None:
    for mode, word in (("false", "seccomp is off"), ("log", "seccomp only logs")):
        with start_worker(tmp_path, "--seccomp", mode) as worker:
            status = Path(f"/proc/{worker.pid}/status").read_text()
            assert ("Seccomp:\t2" in status) is (mode == "log")
            assert word in worker.read_log()


def test_every_kind_of_thread_has_a_rule_of_its_own() -> None:
    kinds = {kind for rule in seccomp.rules() for kind in rule.kinds}
    assert kinds == set(Kind)


def test_no_rule_is_there_twice() -> None:
    found = [(rule.call, rule.tests, kind) for rule in seccomp.rules() for kind in rule.kinds]
    assert len(found) == len(set(found))
