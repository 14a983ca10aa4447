# SPDX-License-Identifier: Apache-2.0
"""Runs the tiers of tests, each where it can run, and adds up their results.

A tier is one task or several; tasks run beside each other, as many as there are
processors for, and the output of each is printed when it has ended. The last line is
"N passed, N failed, N skipped". The exit status is 0 only when every task ran and
nothing failed.
"""

import argparse
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tests import lanes
from tests.guests.debian import debian_files
from tests.support import guests
from tests.testbed import host
from tests.testbed.deployment import DEPLOYMENT
from tests.testbed.jobs import MACHINE_FAILED, PROJECT, TIME_LIMIT_EXCEEDED, guest_files, run_job

RESULTS = PROJECT / "build/test-results"
SANITIZED = PROJECT / "build/sanitized"
NATIVE = PROJECT / "native/kvm_shim"
INSTALL = PROJECT / "tests/integration/systemd/install"
COUNTS_BYTES = "tests/integration/functional/test_soak.py"
"""It counts what processes have; the sanitizers keep what was freed."""
TESTS_FAILED = 1

TIER_LIMIT = 1800.0
GROUP_LIMIT = 1800.0
SYSTEMD_LIMIT = 3600.0
SYSTEMD_TEST_LIMIT = 900
"""For one test, on an emulated processor that others use as well."""


@dataclass
class Outcome:
    """What one run of tests came to."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    retries: int = 0
    seconds: float = 0.0
    trouble: str = ""

    def fail(self, trouble: str) -> None:
        """Count something that went wrong outside of a test."""
        self.failed += 1
        self.trouble = trouble


def headline(text: str) -> None:
    """Print what comes next."""
    print(f"\n=== {text}", flush=True)


def execute(
    command: Sequence[str | Path], environment: Mapping[str, str], limit: float
) -> tuple[int, int]:
    """Run a command on this machine; return its status and no retries."""
    with subprocess.Popen(command, env=os.environ | environment, start_new_session=True) as process:
        try:
            return process.wait(limit), 0
        except subprocess.TimeoutExpired:
            return TIME_LIMIT_EXCEEDED, 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def execute_in_testbed(
    command: Sequence[str | Path], environment: Mapping[str, str], limit: float
) -> tuple[int, int]:
    """Run a command in the testbed; return its status and how often the testbed failed."""
    return run_job(list(map(str, command)), environment=environment, time_limit=limit)


def execute_on_systemd(
    command: Sequence[str | Path], environment: Mapping[str, str], limit: float
) -> tuple[int, int]:
    """Run a command on a clean Debian, in the testbed, after the package was installed there."""
    whole = [str(INSTALL), *map(str, command)]
    return run_job(whole, environment=environment, time_limit=limit, system=DEPLOYMENT)


Runner = Callable[[Sequence[str | Path], Mapping[str, str], float], tuple[int, int]]
"""Runs a command somewhere; returns its status, and how often the testbed failed."""


def pytest(
    name: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    run: Runner = execute,
    limit: float = TIER_LIMIT,
) -> Outcome:
    """Run pytest and count what it reports."""
    headline(f"{name}{'' if run is execute else ' (in the testbed)'}")
    outcome = Outcome(name)
    report = RESULTS / f"{name.replace(' ', '-').replace('/', '-')}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junit-xml={report}"]
    started = time.monotonic()
    status, outcome.retries = run([*command, *arguments], environment or {}, limit)
    outcome.seconds = time.monotonic() - started
    count(outcome, report)
    if status == TIME_LIMIT_EXCEEDED:
        outcome.fail(f"no end within {limit:.0f} s")
    elif status == MACHINE_FAILED and run is not execute:
        outcome.fail("the testbed failed")
    elif status not in {0, TESTS_FAILED} or (status and not outcome.failed):
        outcome.fail(f"pytest ended with status {status}")
    elif outcome.passed + outcome.failed == 0:
        outcome.fail("no test ran")
    return outcome


def count(outcome: Outcome, report: Path) -> None:
    """Add the numbers of a JUnit report."""
    if not report.exists():
        return
    for suite in ET.parse(report).iter("testsuite"):
        tests, failures, errors, skipped = (
            int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
        )
        outcome.failed += failures + errors
        outcome.skipped += skipped
        outcome.passed += tests - failures - errors - skipped


def checks(name: str, commands: Mapping[str, Sequence[str | Path]]) -> Outcome:
    """Run commands that succeed or fail as a whole."""
    outcome = Outcome(name)
    started = time.monotonic()
    for title, command in commands.items():
        headline(f"{name}: {title}")
        status, _ = execute(command, {}, TIER_LIMIT)
        if status:
            outcome.fail(title)
        else:
            outcome.passed += 1
    outcome.seconds = time.monotonic() - started
    return outcome


def lint() -> Outcome:
    """Check style, types, and what the C compiler warns of."""
    warnings = runpy.run_path(str(NATIVE / "build_native.py"))["WARNINGS"]
    sources = sorted((NATIVE / "src").glob("*.c"))
    gcc = ["gcc", *warnings, "-fsyntax-only", "-D_GNU_SOURCE", f"-I{NATIVE / 'include'}", *sources]
    ruff = [Path(sys.executable).with_name("ruff")]
    commands: dict[str, Sequence[str | Path]] = {
        "ruff check": [*ruff, "check", "--no-cache", "."],
        "ruff format": [*ruff, "format", "--no-cache", "--check", "."],
        "mypy": [sys.executable, "-m", "mypy"],
        "C warnings": gcc,
    }
    return checks("lint", commands)


def unit() -> Outcome:
    """Run what needs no KVM."""
    return pytest("unit", "-q", "-m", "not kvm and not linux and not systemd", "tests")


def kvm() -> Outcome:
    """Run the tiny guests, on whatever KVM there is."""
    return kvm_tests("kvm", {}, ["tests/integration"])


def sanitized() -> Outcome:
    """Run the tiny guests again, on a C core built with ASan and UBSan."""
    headline("building the C core with ASan and UBSan")
    sanitizers = {"VELUM_SANITIZE": "address,undefined"}
    build = [sys.executable, "-W", "ignore", "setup.py", "--quiet", "build"]
    folders = [f"--build-base={SANITIZED}", f"--build-lib={SANITIZED}/lib"]
    status, _ = execute([*build, *folders], sanitizers, TIER_LIMIT)
    if status:
        outcome = Outcome("kvm-sanitized")
        outcome.fail("the C core does not build with the sanitizers")
        return outcome
    runtimes = [
        Path(subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip())
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {
        "LD_PRELOAD": " ".join(str(path.resolve()) for path in runtimes),
        "PYTHONPATH": f"{SANITIZED}/lib",
        # Python keeps what it has until its end: leaks are looked for by other tests.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    # Through the wrapper alone where it is slow: the rest starts many processes.
    paths = ["tests/integration"] if host.kvm() else shim_tests()
    return kvm_tests("kvm-sanitized", environment, [*paths, f"--deselect={COUNTS_BYTES}"])


def shim_tests() -> list[str]:
    """Return the test files that use the C core directly."""
    folder = PROJECT / "tests/integration/functional"
    kinds = ("device", "shim", "vcpu", "vm")
    return sorted(str(path) for kind in kinds for path in folder.glob(f"test_{kind}_*.py"))


def build_guests() -> None:
    """Build the tiny guests: the testbed has no compiler."""
    for guest in guests.names():
        guests.build(guest)


def kvm_tests(name: str, environment: Mapping[str, str], paths: Sequence[str]) -> Outcome:
    """Run the tier of tiny guests here, or in the testbed where there is no KVM."""
    build_guests()
    required = {"VELUM_REQUIRE_KVM": "1", **environment}
    arguments = ("-q", "-m", "kvm and not linux", *paths)
    return pytest(
        name, *arguments, environment=required, run=execute if host.kvm() else execute_in_testbed
    )


def linux_files() -> list[Path]:
    """Return the test files that need Linux guests."""
    return sorted(
        path.relative_to(PROJECT)
        for path in (PROJECT / "tests/integration").rglob("test_*.py")
        if "pytest.mark.linux" in path.read_text()
    )


def linux(path: Path) -> Outcome:
    """Run a file's Linux guests, in a fresh testbed where this CPU is too slow."""
    build_guests()
    required = {"VELUM_REQUIRE_KVM": "1", "VELUM_REQUIRE_LINUX": "1"}
    return pytest(
        f"linux {path.stem.removeprefix('test_')}",
        *("-v", "-m", "linux", str(path)),
        environment={**required, **guest_files(), **debian_files()},
        run=execute if host.fast_kvm() else execute_in_testbed,
        limit=GROUP_LIMIT,
    )


def package() -> Path | None:
    """Build the package, and return its path if that succeeds."""
    headline("building the package")
    status, _ = execute(["make", "deb"], {}, TIER_LIMIT)
    packages = sorted((PROJECT / "dist").glob("velum_*.deb"), key=lambda path: path.stat().st_mtime)
    return None if status or not packages else packages[-1]


def systemd() -> Outcome:
    """Install the package on a clean Debian and have systemd run it; always in the testbed."""
    built = package()
    if built is None:
        outcome = Outcome("systemd")
        outcome.fail("the package does not build")
        return outcome
    build_guests()
    return pytest(
        "systemd",
        *("-v", "-o", f"timeout={SYSTEMD_TEST_LIMIT}", "tests/integration/systemd"),
        environment={"VELUM_REQUIRE_SYSTEMD": "1", "VELUM_PACKAGE": str(built)},
        run=execute_on_systemd,
        limit=SYSTEMD_LIMIT,
    )


def clients() -> Outcome:
    """Have the clients of others drive a VM; needs cargo, go, java and mvn."""
    required = {"VELUM_REQUIRE_CLIENTS": "1", "VELUM_REQUIRE_KVM": "1"}
    return pytest("clients", "-v", "tests/integration/clients", environment=required)


def corpora() -> Outcome:
    """Run each fuzz target over its corpus, without looking for new inputs."""
    return checks("fuzz", {"corpora": [NATIVE / "fuzz/run", "--corpus"]})


TIERS: dict[str, dict[str, Callable[[], Outcome]]] = {
    "lint": {"lint": lint},
    "unit": {"unit": unit},
    "kvm": {"kvm": kvm},
    "sanitized": {"sanitized": sanitized},
    "fuzz": {"fuzz": corpora},
    "linux": {path.stem: partial(linux, path) for path in linux_files()},
    "systemd": {"systemd": systemd},
    "clients": {"clients": clients},
}
"""The tasks of each tier, by name."""
LONGEST = "systemd"
"""It comes first, so that nothing has to wait for it in the end."""
OPTIONAL = {"clients"}
"""Run only when they are named: they need compilers that Velum does not."""


def outcome_file(task: str) -> Path:
    """Return where a task leaves what it came to."""
    return RESULTS / f"{task}.json"


def run_task(task: str) -> Outcome:
    """Run one task in this process."""
    outcome = next(tasks[task] for tasks in TIERS.values() if task in tasks)()
    RESULTS.mkdir(parents=True, exist_ok=True)
    outcome_file(task).write_text(json.dumps(asdict(outcome)))
    return outcome


def run_beside(names: Sequence[str]) -> list[Outcome]:
    """Run the tasks of tiers, the Linux guests beside the rest."""
    command = [sys.executable, "-u", "-m", "tests.run", "--task"]
    queues: tuple[list[lanes.Task], list[lanes.Task]] = ([], [])
    tasks = [(name, task) for name in names for task in TIERS[name]]
    if len(tasks) == 1:
        return [run_task(tasks[0][1])]
    for name, task in sorted(tasks, key=lambda each: each[0] != LONGEST):
        outcome_file(task).unlink(missing_ok=True)
        log = RESULTS / f"{task}.log"
        queues[name == "linux"].append(lanes.Task(task, [*command, task], log))
    lanes.run(queues, min(len(queues), os.cpu_count() or 1))
    return [outcome_of(task) for _, task in tasks]


def outcome_of(task: str) -> Outcome:
    """Read what a task came to."""
    try:
        return Outcome(**json.loads(outcome_file(task).read_text()))
    except FileNotFoundError:
        outcome = Outcome(task)
        outcome.fail("it ended before its time")
        return outcome


def show(outcomes: Sequence[Outcome]) -> None:
    """Print the table, and the totals as the last line."""
    headline(f"results ({host.place()})")
    width = max(len(outcome.name) for outcome in outcomes)
    columns = ("passed", "failed", "skipped", "retries")
    print(f"{'':{width}}", *(f"{column:>8}" for column in columns), f"{'seconds':>8}")
    for outcome in outcomes:
        numbers = (f"{getattr(outcome, column):8}" for column in columns)
        note = f"  {outcome.trouble}" if outcome.trouble else ""
        print(f"{outcome.name:{width}}", *numbers, f"{outcome.seconds:8.1f}{note}")
    totals = (f"{sum(getattr(o, column) for o in outcomes)} {column}" for column in columns[:3])
    print(", ".join(totals), flush=True)


def main() -> int:
    """Run the tiers named on the command line, or all of them."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # A shell's background job ignores it, and so would all that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m tests.run", description=__doc__)
    parser.add_argument("tiers", nargs="*", metavar="TIER", help=", ".join(TIERS))
    known = [task for tasks in TIERS.values() for task in tasks]
    parser.add_argument("--task", choices=known, help="run this one alone, in this process")
    options = parser.parse_args()
    if options.task is not None:
        return 1 if run_task(options.task).failed else 0
    names = options.tiers or [name for name in TIERS if name not in OPTIONAL]
    for name in names:
        if name not in TIERS:
            parser.error(f"no tier {name}; there are {', '.join(TIERS)}")
    print(f"test: {host.place()}", flush=True)
    outcomes = run_beside(names)
    show(outcomes)
    return 1 if any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
