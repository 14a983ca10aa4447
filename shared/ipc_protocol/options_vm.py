# SPDX-License-Identifier: Apache-2.0
"""The options of a command line that describe a VM, and the ``VmConfig`` they make.

Names and syntax are Cloud Hypervisor's. The worker and ``velumctl`` both offer this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from ipc_protocol import options_devices as devices
from ipc_protocol.config import (
    CoreScheduling,
    CpuAffinity,
    CpusConfig,
    CpuTopology,
    LandlockAccess,
    LandlockConfig,
    MemoryConfig,
    PayloadConfig,
    VmConfig,
)
from ipc_protocol.options import OptionError, parse

__all__ = [
    "DEVICES",
    "MACHINE",
    "VmOption",
    "make_config",
    "parse_cpus",
    "parse_landlock_rule",
    "parse_memory",
]

_DEFAULTS: Final = VmConfig(PayloadConfig())
_CPUS: Final = (
    *("boot", "max", "topology", "max_phys_bits"),
    *("affinity", "nested", "core_scheduling"),
)
_SIZES: Final = ("size", "hugepage_size")
_SWITCHES: Final = ("mergeable", "shared", "hugepages", "prefault", "reserve", "thp")
_PAYLOAD: Final = ("kernel", "initramfs", "cmdline")

_Part = TypeVar("_Part", bound=msgspec.Struct)


class VmOption(NamedTuple):
    """One option, as a parser of command lines needs to know it."""

    name: str
    field: str
    """The field of ``VmConfig`` or of its payload that it sets."""
    read: Callable[[str], object] | None
    """Makes the field's value, or one element of it; ``None`` for a switch without value."""
    metavar: str
    help: str
    many: bool = False
    """Whether it may be given more than once."""


def parse_cpus(text: str) -> CpusConfig:
    """Read the value of ``--cpus``."""
    options = parse(text, keys=_CPUS)
    boot = options.integer("boot")
    most = options.integer("max")
    topology = options.integers("topology", count=4)
    affinity = options.tuples("affinity")
    given = {
        "boot_vcpus": boot,
        "max_vcpus": boot if most is None else most,
        "max_phys_bits": options.integer("max_phys_bits"),
        "topology": None if topology is None else CpuTopology(*topology),
        "affinity": affinity and tuple(CpuAffinity(vcpu, tuple(cpus)) for vcpu, cpus in affinity),
        "nested": options.toggle("nested"),
        "core_scheduling": options.choice("core_scheduling", CoreScheduling),
    }
    return _with(_DEFAULTS.cpus, given)


def parse_memory(text: str) -> MemoryConfig:
    """Read the value of ``--memory``."""
    options = parse(text, keys=(*_SIZES, *_SWITCHES))
    given = {
        **{name: options.size(name) for name in _SIZES},
        **{name: options.toggle(name) for name in _SWITCHES},
    }
    return _with(_DEFAULTS.memory, given)


def parse_landlock_rule(text: str) -> LandlockConfig:
    """Read the value of ``--landlock-rules``."""
    options = parse(text, keys=("path", "access"))
    path, access = options.text("path"), options.choice("access", LandlockAccess)
    if path is None or access is None:
        raise OptionError("expected path=PATH,access=r|w|rw")
    return LandlockConfig(path, access)


def make_config(given: Mapping[str, Any]) -> VmConfig:
    """Return the configuration that options ask for; it is not validated.

    Args:
        given: Their values by field; ``None``, or no entry, where an option was not given.
    """
    payload = PayloadConfig(**{name: given.get(name) for name in _PAYLOAD})
    options = (option for option in (*MACHINE, *DEVICES) if option.field not in _PAYLOAD)
    values = {option.field: given.get(option.field) for option in options}
    # What may be given often comes as a list of all that was, if anything was.
    parts = {
        field: tuple(each) if isinstance(each, list) else each for field, each in values.items()
    }
    return _with(VmConfig(payload), parts)


def _with(default: _Part, given: Mapping[str, object]) -> _Part:
    """Return a part of the configuration with what was given in place of the default."""
    changes = {name: value for name, value in given.items() if value is not None}
    return msgspec.structs.replace(default, **changes)


MACHINE: Final = (
    VmOption("--kernel", "kernel", str, "FILE", "bzImage, or ELF image with a PVH note"),
    VmOption("--initramfs", "initramfs", str, "FILE", "initial RAM disk"),
    VmOption("--cmdline", "cmdline", str, "TEXT", "kernel command line"),
    VmOption(
        "--cpus",
        "cpus",
        parse_cpus,
        "boot=N[,max=N][,topology=T:C:D:P][,affinity=[0@[1,2],1@[3-5]]][,...]",
        "vCPUs; the topology is threads per core, cores per die, dies per package, packages, the "
        "affinity of each vCPU the host's CPUs it may run on; also max_phys_bits=N, nested=off, "
        "core_scheduling=vm|vcpu|off",
    ),
    VmOption(
        "--memory",
        "memory",
        parse_memory,
        "size=N[K|M|G][,shared=on][,hugepages=on][,prefault=on][,...]",
        "RAM (default: size=512M); also hugepage_size=1G, reserve=on, thp=off",
    ),
    VmOption("--landlock", "landlock_enable", None, "", "open nothing but what these options name"),
    VmOption(
        "--landlock-rules",
        "landlock_rules",
        parse_landlock_rule,
        "path=PATH,access=r|w|rw",
        "with --landlock, a file or directory that may be opened too",
        many=True,
    ),
)
"""What the VM is and what it starts with."""

_TERMINAL: Final = "tty|pty|null|off|file=PATH|socket=PATH"

DEVICES: Final = (
    VmOption(
        "--serial", "serial", devices.parse_serial, _TERMINAL, "the serial port (default: null)"
    ),
    VmOption(
        "--console",
        "console",
        devices.parse_console,
        _TERMINAL,
        "the virtio console (default: tty); what is typed goes to the serial port if both are tty",
    ),
    VmOption(
        "--disk",
        "disks",
        devices.parse_disk,
        "path=FILE[,...]",
        "a raw image or a block device; also readonly=on, direct=on, sparse=off, serial=TEXT, "
        "num_queues=N, queue_size=N, image_type=raw, lock_granularity=full, rate_limit_group=ID, "
        "and a limit: bw_size=N, bw_refill_time=MS, bw_one_time_burst=N, and the same with ops_",
        many=True,
    ),
    VmOption(
        "--net",
        "net",
        devices.parse_net,
        "tap=NAME[,...]",
        "an interface of the host, made if there is none; also mac=M, host_mac=M, ip=A, mask=A, "
        "mtu=N, num_queues=N, queue_size=N, offload_tso=off, offload_ufo=off, offload_csum=off, "
        "vhost=off, and a limit as of --disk",
        many=True,
    ),
    VmOption("--rng", "rng", devices.parse_rng, "src=FILE", "entropy (default: src=/dev/urandom)"),
    VmOption(
        "--pmem",
        "pmem",
        devices.parse_pmem,
        "file=FILE[,size=N][,discard_writes=on]",
        "a file as persistent memory",
        many=True,
    ),
    VmOption(
        "--vsock",
        "vsock",
        devices.parse_vsock,
        "cid=N,socket=PATH",
        "sockets between host and guest",
    ),
    VmOption(
        "--balloon",
        "balloon",
        devices.parse_balloon,
        "size=N[K|M|G][,deflate_on_oom=on][,free_page_reporting=on][,statistics=on]",
        "memory that the guest gives back",
    ),
    VmOption(
        "--rate-limit-group",
        "rate_limit_groups",
        devices.parse_rate_limit_group,
        "id=ID[,bw_size=N,bw_refill_time=MS][,ops_size=N,ops_refill_time=MS]",
        "a limit that disks share, by rate_limit_group=ID",
        many=True,
    ),
    VmOption("--watchdog", "watchdog", None, "", "reset the VM when its guest hangs"),
    VmOption("--pvpanic", "pvpanic", None, "", "let the guest's kernel report its crash"),
)
"""What it has; each but the serial port takes ``id=`` and ``pci_device_id=`` too."""
