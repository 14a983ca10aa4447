# SPDX-License-Identifier: Apache-2.0
"""Tries to cross the boundaries that it runs within, and says how far it came.

It stands alone: it is run by the host's Python in place of a service's own program, in that
service's sandbox, and outside of it for comparison::

    python3 boundary_probe.py attempts.json >answers.json

The attempts are a list like ``[["open", "/dev/kvm", "rw"], ["signal", 4711]]``, the answers one
of what came of each, in the same order. Nothing that it tries changes
anything when it succeeds. Each attempt has a process of its own, as some boundaries kill.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["ATTEMPTS", "main"]

_libc = ctypes.CDLL(None, use_errno=True)

_PTRACE_DETACH, _PTRACE_SEIZE = 17, 0x4206
_SYS_PIDFD_GETFD = 438
_CLONE_NEWUSER = 0x1000_0000
_PROT_ALL, _MAP_PRIVATE_ANONYMOUS = 7, 0x22
_PAGE = 4096
_PATIENCE = 60
"""Seconds for one attempt, which takes none."""
_NONE = ctypes.c_void_p(0)


def _check(result: int | None) -> int:
    if result is None or result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _open(path: str, mode: str = "r") -> str:
    """Open a file or a device."""
    flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}[mode]
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
    return "opened"


def _list(path: str) -> str:
    """Read a folder."""
    return f"{sum(1 for _ in Path(path).iterdir())} entries"


def _make(folder: str) -> str:
    """Make a file in a folder."""
    path = Path(folder, f".velum-probe-{os.getpid()}")
    path.touch(exist_ok=False)
    path.unlink()
    return "made"


def _connect(path: str) -> str:
    """Connect to a UNIX socket."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
    return "connected"


def _family(name: str, kind: str) -> str:
    """Make a socket of an address family."""
    with socket.socket(getattr(socket, name), getattr(socket, kind)):
        return "made"


def _signal(pid: int) -> str:
    """Send a process the signal that does nothing, which takes the right to send any."""
    os.kill(pid, 0)
    return "sent"


def _seen(pid: int) -> str:
    """Look a process up."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _ptrace(pid: int) -> str:
    """Attach to a process as a debugger does."""
    _check(_libc.ptrace(_PTRACE_SEIZE, pid, _NONE, _NONE))
    with contextlib.suppress(OSError):
        _check(_libc.ptrace(_PTRACE_DETACH, pid, _NONE, _NONE))
    return "attached"


def _read_memory(pid: int, address: int) -> str:
    """Read a process's memory through its file."""
    descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    return f"{len(os.pread(descriptor, _PAGE, address))} bytes"


def _copy_memory(pid: int, address: int) -> str:
    """Read a process's memory by the system call for that."""
    here = ctypes.create_string_buffer(_PAGE)
    pair = ctypes.c_uint64 * 2
    mine, theirs = pair(ctypes.addressof(here), _PAGE), pair(address, _PAGE)
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    size = _libc.process_vm_readv(pid, ctypes.byref(mine), one, ctypes.byref(theirs), one, none)
    return f"{_check(size)} bytes"


def _open_descriptor(pid: int, number: int) -> str:
    """Open what a process has open, by its link."""
    os.close(os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY))
    return "opened"


def _take_descriptor(pid: int, number: int) -> str:
    """Take what a process has open, by the system call for that."""
    process = os.pidfd_open(pid)
    os.close(_check(_libc.syscall(_SYS_PIDFD_GETFD, process, number, 0)))
    return "taken"


def _namespace() -> str:
    """Make a user namespace, in which one has every capability."""
    _check(_libc.unshare(_CLONE_NEWUSER))
    return "made"


def _mount(path: str) -> str:
    """Mount a file system, here over a folder of this process's own."""
    _check(_libc.mount(b"tmpfs", path.encode(), b"tmpfs", ctypes.c_ulong(0), None))
    _check(_libc.umount2(path.encode(), 0))
    return "mounted"


def _write_and_execute() -> str:
    """Map memory that can be written and executed."""
    _libc.mmap.restype = ctypes.c_void_p
    size = ctypes.c_size_t(_PAGE)
    address = _libc.mmap(_NONE, size, _PROT_ALL, _MAP_PRIVATE_ANONYMOUS, -1, ctypes.c_long(0))
    if address == ctypes.c_void_p(-1).value:
        _check(-1)
    return "mapped"


def _set_user_id() -> str:
    """Make a program that runs as its owner, whoever starts it, where files can be made."""
    folders = os.environ.get("RUNTIME_DIRECTORY", "/tmp")
    path = Path(folders.partition(":")[0], f".velum-probe-{os.getpid()}")
    path.touch(exist_ok=False)
    try:
        path.chmod(0o4755)
    finally:
        path.unlink()
    return "made"


def _identity() -> dict[str, Any]:
    """Say who this is and which rights it has."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    rights = {name: int(status[name], 16) for name in status if name.startswith("Cap")}
    return {
        "uid": os.getuid(),
        "groups": sorted({os.getgid(), *os.getgroups()}),
        "capabilities": rights,
        "no_new_privileges": status["NoNewPrivs"] == "1",
        "filters": int(status.get("Seccomp_filters", "0")),
    }


def _interface(name: str) -> int:
    """Look a network interface up."""
    return socket.if_nametoindex(name)


def _writable() -> list[str]:
    """List the folders and files that can be written, the process's own in /proc aside."""
    return sorted(path for mount in _mounts_to_write() for path in _walk(mount))


def _mounts_to_write() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point, options = line.split()[4:6]
        if "rw" in options.split(","):
            yield re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point)


def _walk(top: str) -> Iterator[str]:
    root = _found(top)
    if root is None:
        return  # It has just been unmounted, or is under another mount: no path leads to it.
    for folder, below, names in os.walk(top):
        below[:] = [
            name
            for name in below
            if not (folder == "/proc" and (name.isdigit() or name in {"self", "thread-self"}))
            and (found := _found(f"{folder}/{name}")) is not None
            and found.st_dev == root.st_dev
        ]
        paths = [folder, *(f"{folder}/{name}" for name in names)]
        yield from (path for path in paths if _can_write(path))


def _found(path: str) -> os.stat_result | None:
    """Return what is there, if we can get there; others make and remove files meanwhile."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, PermissionError):
        return None


def _can_write(path: str) -> bool:
    found = _found(path)
    if found is None or not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        return False
    return os.access(path, os.W_OK)


def _devices() -> list[str]:
    """List the devices that can be opened, for reading or for writing."""
    found = []
    for folder, _, names in os.walk("/dev"):
        for path in (f"{folder}/{name}" for name in names):
            kind = os.lstat(path).st_mode
            if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
                for mode in ("r", "w"):
                    with contextlib.suppress(OSError):
                        _open(path, mode)
                        found.append(path)
    return sorted(set(found))


ATTEMPTS: dict[str, Callable[..., Any]] = {
    attempt.__name__.removeprefix("_"): attempt
    for attempt in (
        *(_open, _list, _make, _connect, _family, _signal, _seen, _ptrace, _read_memory),
        *(_copy_memory, _open_descriptor, _take_descriptor, _namespace, _mount),
        *(_write_and_execute, _set_user_id, _identity, _interface),
        *(_writable, _devices),
    )
}
"""What can be tried; each returns what it got, or raises ``OSError``."""


def _try(name: str, arguments: list[Any]) -> dict[str, Any]:
    """Try one thing in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(_PATIENCE)
        os.close(reading)
        try:
            answer = {"crossed": True, "got": ATTEMPTS[name](*arguments)}
        except OSError as ex:
            answer = {"crossed": False, "got": ex.strerror}
        with os.fdopen(writing, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        killer = signal.Signals(os.WTERMSIG(status))
        if killer is not signal.SIGSYS:
            raise RuntimeError(f"{name} {arguments} ended by {killer.name}")
        return {"crossed": False, "got": killer.name}
    return json.loads(text)  # type: ignore[no-any-return] # what the child has just written


def main(arguments: list[str]) -> None:
    """Try everything that the file asks for, and print the answers."""
    attempts = json.loads(Path(arguments[0]).read_text())
    answers = [_try(name, list(rest)) for name, *rest in attempts]
    sys.stdout.write(f"{json.dumps(answers)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
