# SPDX-License-Identifier: Apache-2.0
"""The command line of ``velum-vmm``: where the worker listens, and the VM it starts."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from ipc_protocol.config import VmConfig
from ipc_protocol.errors import VmFailure
from ipc_protocol.names import RUNTIME_DIR, ipc_path
from ipc_protocol.options import OptionError, parse
from ipc_protocol.options_vm import DEVICES, MACHINE, VmOption, make_config
from ipc_protocol.version import BUILD_VERSION
from vmm_worker.event_file import EventTarget

__all__ = ["SeccompMode", "Settings", "make_parser", "read"]

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_SHUTDOWN_TIMEOUT: Final = 10.0
_LAST_UID: Final = (1 << 31) - 1
"""What an ``int`` option of a ZeroMQ socket has room for."""
_COLUMNS: Final = 80
"""Where no terminal says how many it has."""
_DEVICES_HELP: Final = (
    "--disk, --net, --pmem and --rate-limit-group may be given more than once. Each device but "
    "the serial port takes id=ID and pci_device_id=1..31 too."
)

_Value = TypeVar("_Value")


class SeccompMode(StrEnum):
    """What happens to a system call that the worker has no rule for."""

    TRUE = "true"
    """It ends the process."""
    FALSE = "false"
    """It is made: there are no rules."""
    LOG = "log"
    """It is made, and the kernel logs it."""


class Settings(NamedTuple):
    """What the command line asks for."""

    ipc: Path
    """The socket the worker listens on."""
    runtime_dir: Path | None
    """The directory to create when it is missing; none with an explicit ``--ipc``."""
    peers: frozenset[int]
    """The users who may connect besides root and the worker's own, by number."""
    kvm: str
    seccomp: SeccompMode
    log_level: str
    shutdown_timeout: float
    """Seconds a guest has to power off by itself once the worker is told to stop."""
    exit_with_guest: bool
    """Whether the process ends when its guest stops by itself."""
    event_target: EventTarget | None
    """Where events are written, if anywhere."""
    config: VmConfig | None
    """The VM to create and boot, if one was given."""
    file: Path | None
    """The file that describes it, if there may be one."""


class _Help(argparse.HelpFormatter):
    """Is as wide as the terminal, and asks for that without the compressors of ``shutil``.

    A formatter is made for each option that is added: also by a worker that shows no help.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other failure of the worker does."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def read(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line; exits with status 2 and one line on stderr if it is wrong.

    Args:
        arguments: The arguments; those of the process when ``None``.
    """
    parser = make_parser()
    given = parser.parse_args(arguments)
    if given.kernel is not None and given.config is not None:
        parser.error("--config and --kernel are two VMs: give one of them")
    if given.kernel is None:
        for option in (*MACHINE, *DEVICES):
            if getattr(given, option.field) is not None:
                parser.error(f"{option.name} needs --kernel")
    runtime_dir = None
    if given.ipc is None:
        runtime_dir = given.runtime_dir
        try:
            given.ipc = ipc_path(given.runtime_dir, given.name)
        except VmFailure as ex:
            parser.error(f"argument --name: {ex}")
    return Settings(
        ipc=given.ipc,
        runtime_dir=runtime_dir,
        peers=frozenset(given.ipc_peer),
        kvm=given.kvm,
        seccomp=SeccompMode(given.seccomp),
        log_level=given.log_level,
        shutdown_timeout=given.shutdown_timeout,
        exit_with_guest=given.kernel is not None and not given.no_shutdown,
        event_target=given.event_monitor,
        config=None if given.kernel is None else make_config(vars(given)),
        file=given.config,
    )


def make_parser() -> argparse.ArgumentParser:
    """Return what parses the command line."""
    parser = _Parser(
        prog="velum-vmm",
        description="Own one virtual machine and take orders for it over a UNIX socket.",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    place = parser.add_argument_group("where it listens").add_mutually_exclusive_group()
    place.add_argument(
        "--name",
        default="default",
        help="name of the VM: listens at NAME/vmm.ipc (default: default)",
    )
    place.add_argument("--ipc", "--api", type=Path, metavar="PATH", help="listen on this path")
    parser.add_argument(
        "--runtime-dir",
        type=Path,
        default=Path(RUNTIME_DIR),
        metavar="DIR",
        help="directory of the sockets, created if missing (default: %(default)s)",
    )
    parser.add_argument(
        "--ipc-peer",
        action="append",
        type=_user,
        default=[],
        metavar="USER|UID",
        help="who may connect besides root and the user of this process; may be repeated",
    )
    vm = parser.add_argument_group(
        "a VM to create and boot", "Without --kernel or --config the worker waits for requests."
    )
    vm.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="take it from a JSON file: the body of vm.create, and what the host does for it; "
        "an empty file describes no VM",
    )
    for option in MACHINE:
        _add(vm, option)
    vm.add_argument(
        "--no-shutdown",
        action="store_true",
        help="keep the worker when the guest stops by itself",
    )
    devices = parser.add_argument_group("devices of that VM", _DEVICES_HELP)
    for option in DEVICES:
        _add(devices, option)
    host = parser.add_argument_group("the host")
    host.add_argument("--kvm", default="/dev/kvm", metavar="DEVICE", help="default: %(default)s")
    host.add_argument(
        "--seccomp",
        choices=tuple(map(str, SeccompMode)),
        default=str(SeccompMode.TRUE),
        help="whether a system call that the worker has no rule for kills it, or is only logged "
        "by the kernel (default: %(default)s)",
    )
    host.add_argument(
        "--shutdown-timeout",
        type=_seconds,
        default=_SHUTDOWN_TIMEOUT,
        metavar="SECONDS",
        help="on SIGTERM, time for the guest to power off by itself (default: %(default)g)",
    )
    host.add_argument(
        "--event-monitor",
        type=_option(_event_target),
        metavar="path=FILE|fd=N",
        help="where to write the events of the VM and its worker as they happen",
    )
    host.add_argument("--log-level", choices=LOG_LEVELS, default="info", help="default: info")
    parser.add_argument("--version", action="version", version=f"velum-vmm {BUILD_VERSION}")
    return parser


def _columns() -> int:
    """Return the width that help is written in; ``COLUMNS`` is how a user sets it."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(1).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def _add(group: argparse._ArgumentGroup, option: VmOption) -> None:
    names: dict[str, Any] = {"dest": option.field, "help": option.help}
    if option.read is None:
        group.add_argument(option.name, action="store_true", default=None, **names)
        return
    reader = _option(option.read)
    many: dict[str, Any] = {"action": "extend", "nargs": "+"} if option.many else {}
    group.add_argument(option.name, type=reader, metavar=option.metavar, **names, **many)


def _option(reader: Callable[[str], _Value]) -> Callable[[str], _Value]:
    def convert(text: str) -> _Value:
        try:
            return reader(text)
        except OptionError as ex:
            raise argparse.ArgumentTypeError(str(ex)) from ex

    return convert


def _event_target(text: str) -> EventTarget:
    options = parse(text, keys=("path", "fd"))
    target = EventTarget(options.text("path"), options.integer("fd"))
    if (target.path is None) == (target.fd is None):
        raise OptionError("expected either path=FILE or fd=N")
    return target


def _user(text: str) -> int:
    """Return the id of the user of that name or number."""
    if text.isdecimal():
        if int(text) > _LAST_UID:
            raise argparse.ArgumentTypeError(f"{text}: expected a user id up to {_LAST_UID}")
        return int(text)
    import pwd  # noqa: PLC0415 - few workers are given a name

    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(
            f"{text}: there is no such user; make it (systemd-sysusers, adduser) or give a number"
        ) from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 3600.0:  # noqa: PLR2004 - an hour
        raise argparse.ArgumentTypeError(f"{text}: expected seconds from 0 to 3600")
    return value
