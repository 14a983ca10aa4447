# SPDX-License-Identifier: Apache-2.0
"""Boots the testbed's machine for one command and passes on what comes out of it."""

import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.testbed.cpio import archive, file
from tests.testbed.image import PLAIN, Image, image
from tests.testbed.processes import running
from tests.testbed.session import MachineDiedError, Session
from tests.testbed.shares import Export, Share, exported
from tests.testbed.system import System
from tests.testbed.tsc import tsc_khz

__all__ = ["DEFAULT_MEMORY", "Job", "run"]

GUEST = Path(__file__).parent / "guest"
UNIT = "testbed-agent.service"
CHANNELS = ("out", "err", "control")
DEFAULT_MEMORY = 8192
LOG_TAIL = 4000

# One processor: with two, this machine itself hangs in one boot of ten. The
# periodic tick (nohz, highres) and the beats of a session are the remedies for
# the rare lost timer that remains with one.
KERNEL_COMMAND_LINE = (
    "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable nohz=off highres=off "
    "random.trust_cpu=on apparmor=0"
)


@dataclass(frozen=True)
class Job:
    """A command and what it needs of the machine."""

    command: Sequence[str]
    directory: Path
    shares: list[Share]
    environment: Mapping[str, str] = field(default_factory=dict)
    time_limit: float = 600.0
    memory: int = DEFAULT_MEMORY
    console: Path | None = None
    system: System = PLAIN


def run(job: Job) -> int:
    """Run a job in a machine of its own and return its exit status.

    Its output goes to this process's standard output and error.

    Raises:
        MachineDiedError: the machine failed, and nothing is known about the command.
        TimeLimitError: the command took longer than it may.
    """
    files = image(job.system)
    with ExitStack() as stack:
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="velum-testbed-")))
        log = stack.enter_context((run_dir / "log").open("wb"))
        console = job.console or run_dir / "console"
        exports = stack.enter_context(exported(job.shares, run_dir, log))
        initramfs = write_initramfs(run_dir, files, job, exports)
        ours, theirs = {}, {}
        for name in CHANNELS:
            pair = socket.socketpair()
            ours[name], theirs[name] = map(stack.enter_context, pair)
        command = [
            *machine(files, initramfs, job, console),
            *(argument for export in exports for argument in virtiofs(export)),
            *(argument for name, end in theirs.items() for argument in channel(name, end)),
        ]
        stack.enter_context(running(command, log, fds=[end.fileno() for end in theirs.values()]))
        for end in theirs.values():
            end.close()
        try:
            return Session(ours, job.time_limit).status()
        except MachineDiedError:
            show_tail("console of the testbed's machine", console)
            show_tail("output of qemu and virtiofsd", run_dir / "log")
            raise


def write_initramfs(run_dir: Path, files: Image, job: Job, exports: list[Export]) -> Path:
    """Append the files of this run to the common initramfs."""
    variables = "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in job.environment.items()
    )
    command = f"{variables}cd {shlex.quote(str(job.directory))} && exec {shlex.join(job.command)}\n"
    shares = " ".join(
        f"{export.tag}:{'rw' if export.share.writable else 'ro'}:{export.share.path}"
        for export in exports
    )
    entries = [
        *(file(name, (GUEST / name).read_bytes()) for name in ("agent", UNIT)),
        file("command", command.encode()),
        file("run.conf", f"SHARES={shlex.quote(shares)}\nINIT={job.system.init!r}\n".encode()),
    ]
    initramfs = run_dir / "initramfs"
    shutil.copyfile(files.initramfs, initramfs)
    with initramfs.open("ab") as output:
        output.write(archive(entries))
    return initramfs


def machine(files: Image, initramfs: Path, job: Job, console: Path) -> list[str]:
    """Return the emulator's command line, up to the devices of this run."""
    # With XSAVE the emulator would let the guests of this machine set XCR0
    # without its KVM noticing, and their kernels complain.
    cpu = "max,+svm,+npt,-xsave"
    disk = f"id=disk,file={files.disk},format=raw,if=none,snapshot=on"
    words = f"{KERNEL_COMMAND_LINE} tsc_early_khz={tsc_khz()} {job.system.words}"
    memory = f"{job.memory}M"
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-monitor", "none", "-serial", f"file:{console}"),
        *("-machine", "q35,hpet=off,memory-backend=ram"),
        *("-accel", "tcg,tb-size=512", "-cpu", cpu, "-smp", "1"),
        # Shared with virtiofsd, and taken from the host page by page as it is used.
        *("-object", f"memory-backend-memfd,id=ram,size={memory},share=on", "-m", memory),
        *("-kernel", str(files.kernel), "-initrd", str(initramfs)),
        *("-append", words),
        *("-drive", disk, "-device", "virtio-blk-pci,drive=disk"),
        *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
    ]


def virtiofs(export: Export) -> list[str]:
    """Return the arguments for one shared folder."""
    return [
        *("-chardev", f"socket,id={export.tag},path={export.socket}"),
        *("-device", f"vhost-user-fs-pci,chardev={export.tag},tag={export.tag}"),
    ]


def channel(name: str, end: socket.socket) -> list[str]:
    """Return the arguments for one byte stream between the host and the agent."""
    return [
        *("-chardev", f"socket,id={name},fd={end.fileno()}"),
        *("-device", f"virtserialport,chardev={name},name=testbed.{name}"),
    ]


def show_tail(title: str, path: Path) -> None:
    """Show the end of a log on standard error."""
    text = path.read_bytes()[-LOG_TAIL:].decode(errors="replace") if path.exists() else ""
    print(f"--- {title}:\n{text}---", file=sys.stderr, flush=True)
