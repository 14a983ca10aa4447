# SPDX-License-Identifier: Apache-2.0
"""The command line of ``velum-vmm``: where the worker listens, and the VM it starts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import msgspec

from ipc_protocol.config import CpusConfig, CpuTopology, MemoryConfig, PayloadConfig, VmConfig
from ipc_protocol.errors import VmFailure
from ipc_protocol.names import RUNTIME_DIR, ipc_path
from ipc_protocol.version import BUILD_VERSION
from vmm_worker import device_options as devices
from vmm_worker.options import OptionError, parse

__all__ = ["Settings", "parse_cpus", "parse_memory", "read"]

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_SHUTDOWN_TIMEOUT: Final = 10.0
_DEVICES: Final = (
    "serial",
    "console",
    "rate_limit_groups",
    "disks",
    "net",
    "rng",
    "pmem",
    "vsock",
    "balloon",
    "watchdog",
    "pvpanic",
)
_LISTS: Final = frozenset({"rate_limit_groups", "disks", "net", "pmem"})
_VM_OPTIONS: Final = ("initramfs", "cmdline", "cpus", "memory", *_DEVICES)
_DEVICES_HELP: Final = (
    "--disk, --net, --pmem and --rate-limit-group may be given more than once. Each device but "
    "the serial port takes id=ID and pci_device_id=1..31 too."
)
_CONSOLE_HELP: Final = (
    "the virtio console (default: tty); what is typed goes to the serial port if both are tty"
)
_DISK_HELP: Final = (
    "a raw image or a block device; also readonly=on, direct=on, sparse=off, serial=TEXT, "
    "num_queues=N, queue_size=N, image_type=raw, lock_granularity=full, rate_limit_group=ID, and "
    "a limit: bw_size=N, bw_refill_time=MS, bw_one_time_burst=N, and the same with ops_"
)
_NET_HELP: Final = (
    "an interface of the host, made if there is none; also mac=M, host_mac=M, ip=A, mask=A, mtu=N, "
    "num_queues=N, queue_size=N, offload_tso=off, offload_ufo=off, offload_csum=off, vhost=off, "
    "and a limit as of --disk"
)
_PMEM_HELP: Final = "a file as persistent memory"
_DEFAULTS: Final = VmConfig(PayloadConfig())

_Value = TypeVar("_Value")
_Part = TypeVar("_Part", bound=msgspec.Struct)


class Settings(NamedTuple):
    """What the command line asks for."""

    ipc: Path
    """The socket the worker listens on."""
    runtime_dir: Path | None
    """The directory to create when it is missing; none with an explicit ``--ipc``."""
    kvm: str
    log_level: str
    shutdown_timeout: float
    """Seconds a guest has to power off by itself once the worker is told to stop."""
    exit_with_guest: bool
    """Whether the process ends when its guest stops by itself."""
    config: VmConfig | None
    """The VM to create and boot, if one was given."""


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
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.kernel is None:
        for option in _VM_OPTIONS:
            if getattr(given, option) is not None:
                parser.error(f"{_spelled(option)} needs --kernel")
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
        kvm=given.kvm,
        log_level=given.log_level,
        shutdown_timeout=given.shutdown_timeout,
        exit_with_guest=given.kernel is not None and not given.no_shutdown,
        config=None if given.kernel is None else _config(given),
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="velum-vmm",
        description="Own one virtual machine and take orders for it over a UNIX socket.",
        allow_abbrev=False,
    )
    place = parser.add_argument_group("where it listens").add_mutually_exclusive_group()
    place.add_argument(
        "--name", default="default", help="name of the VM: listens on NAME.ipc (default: default)"
    )
    place.add_argument("--ipc", "--api", type=Path, metavar="PATH", help="listen on this path")
    parser.add_argument(
        "--runtime-dir",
        type=Path,
        default=Path(RUNTIME_DIR),
        metavar="DIR",
        help="directory of the sockets, created if missing (default: %(default)s)",
    )
    vm = parser.add_argument_group(
        "a VM to create and boot", "Without --kernel the worker waits for requests."
    )
    vm.add_argument("--kernel", metavar="FILE", help="bzImage, or ELF image with a PVH note")
    vm.add_argument("--initramfs", metavar="FILE", help="initial RAM disk")
    vm.add_argument("--cmdline", metavar="TEXT", help="kernel command line")
    vm.add_argument(
        "--cpus",
        type=_option(parse_cpus),
        metavar="boot=N[,max=N][,topology=T:C:D:P][,max_phys_bits=N]",
        help="vCPUs; the topology is threads per core, cores per die, dies per package, packages",
    )
    vm.add_argument(
        "--memory",
        type=_option(parse_memory),
        metavar="size=N[K|M|G][,shared=on][,hugepages=on][,prefault=on][,thp=off]",
        help="RAM (default: size=512M)",
    )
    vm.add_argument(
        "--no-shutdown",
        action="store_true",
        help="keep the worker when the guest stops by itself",
    )
    _add_devices(parser)
    host = parser.add_argument_group("the host")
    host.add_argument("--kvm", default="/dev/kvm", metavar="DEVICE", help="default: %(default)s")
    host.add_argument(
        "--shutdown-timeout",
        type=_seconds,
        default=_SHUTDOWN_TIMEOUT,
        metavar="SECONDS",
        help="on SIGTERM, time for the guest to power off by itself (default: %(default)g)",
    )
    host.add_argument("--log-level", choices=LOG_LEVELS, default="info", help="default: info")
    parser.add_argument("--version", action="version", version=f"velum-vmm {BUILD_VERSION}")
    return parser


def _add_devices(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("devices of that VM", _DEVICES_HELP)

    def add(
        name: str, reader: Callable[[str], object], metavar: str, text: str, **more: Any
    ) -> None:
        group.add_argument(name, type=_option(reader), metavar=metavar, help=text, **more)

    many: dict[str, Any] = {"action": "extend", "nargs": "+"}
    terminal = "tty|pty|null|off|file=PATH|socket=PATH"
    add("--serial", devices.parse_serial, terminal, "the serial port (default: null)")
    add("--console", devices.parse_console, terminal, _CONSOLE_HELP)
    add("--disk", devices.parse_disk, "path=FILE[,...]", _DISK_HELP, dest="disks", **many)
    add("--net", devices.parse_net, "tap=NAME[,...]", _NET_HELP, **many)
    add("--rng", devices.parse_rng, "src=FILE", "entropy (default: src=/dev/urandom)")
    add("--pmem", devices.parse_pmem, "file=FILE[,size=N][,discard_writes=on]", _PMEM_HELP, **many)
    add("--vsock", devices.parse_vsock, "cid=N,socket=PATH", "sockets between host and guest")
    add(
        "--balloon",
        devices.parse_balloon,
        "size=N[K|M|G][,deflate_on_oom=on][,free_page_reporting=on][,statistics=on]",
        "memory that the guest gives back",
    )
    add(
        "--rate-limit-group",
        devices.parse_rate_limit_group,
        "id=ID[,bw_size=N,bw_refill_time=MS][,ops_size=N,ops_refill_time=MS]",
        "a limit that disks share, by rate_limit_group=ID",
        dest="rate_limit_groups",
        **many,
    )
    flag: dict[str, Any] = {"action": "store_true", "default": None}
    group.add_argument("--watchdog", help="reset the VM when its guest hangs", **flag)
    group.add_argument("--pvpanic", help="let the guest's kernel report its crash", **flag)


def parse_cpus(text: str) -> CpusConfig:
    """Read the value of ``--cpus``."""
    options = parse(text, keys=("boot", "max", "topology", "max_phys_bits"))
    boot = options.integer("boot")
    most = options.integer("max")
    topology = options.integers("topology", count=4)
    given = {
        "boot_vcpus": boot,
        "max_vcpus": boot if most is None else most,
        "max_phys_bits": options.integer("max_phys_bits"),
        "topology": None if topology is None else CpuTopology(*topology),
    }
    return _with(_DEFAULTS.cpus, given)


def parse_memory(text: str) -> MemoryConfig:
    """Read the value of ``--memory``."""
    switches = ("mergeable", "shared", "hugepages", "prefault", "thp")
    options = parse(text, keys=("size", *switches))
    given = {"size": options.size("size"), **{name: options.toggle(name) for name in switches}}
    return _with(_DEFAULTS.memory, given)


def _config(given: argparse.Namespace) -> VmConfig:
    payload = PayloadConfig(kernel=given.kernel, cmdline=given.cmdline, initramfs=given.initramfs)
    parts = {name: getattr(given, name) for name in ("cpus", "memory", *_DEVICES)}
    parts |= {name: tuple(parts[name] or ()) for name in _LISTS}
    return _with(VmConfig(payload), parts)


def _spelled(name: str) -> str:
    """Return the option that a field of the configuration is set by."""
    singular = name.removesuffix("s") if name in ("disks", "rate_limit_groups") else name
    return f"--{singular.replace('_', '-')}"


def _with(default: _Part, given: Mapping[str, object]) -> _Part:
    """Return a part of the configuration with what was given in place of the default."""
    changes = {name: value for name, value in given.items() if value is not None}
    return msgspec.structs.replace(default, **changes)


def _option(reader: Callable[[str], _Value]) -> Callable[[str], _Value]:
    def convert(text: str) -> _Value:
        try:
            return reader(text)
        except OptionError as ex:
            raise argparse.ArgumentTypeError(str(ex)) from ex

    return convert


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 3600.0:  # noqa: PLR2004 - an hour
        raise argparse.ArgumentTypeError(f"{text}: expected seconds from 0 to 3600")
    return value
