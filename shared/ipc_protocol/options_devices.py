# SPDX-License-Identifier: Apache-2.0
"""The devices' options of the command line, in Cloud Hypervisor's syntax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar

import msgspec

from ipc_protocol.config_devices import (
    BalloonConfig,
    ConsoleConfig,
    DiskConfig,
    ImageType,
    LockGranularity,
    NetConfig,
    PmemConfig,
    RateLimiterConfig,
    RateLimitGroupConfig,
    RngConfig,
    SerialConfig,
    SerialMode,
    TokenBucket,
    VsockConfig,
)
from ipc_protocol.options import OptionError, Options, parse

__all__ = [
    "parse_balloon",
    "parse_console",
    "parse_disk",
    "parse_net",
    "parse_pmem",
    "parse_rate_limit_group",
    "parse_rng",
    "parse_serial",
    "parse_vsock",
]

Reader: TypeAlias = Callable[[Options, str], object]
_Config = TypeVar("_Config", bound=msgspec.Struct)

_MODES: Final = ("tty", "pty", "null", "off")
_BUCKETS: Final = {"bandwidth": "bw", "ops": "ops"}
_BUCKET_KEYS: Final = ("size", "one_time_burst", "refill_time")


def _choice(kind: type[StrEnum]) -> Reader:
    return lambda options, key: options.choice(key, kind)


_PCI: Final[Mapping[str, Reader]] = {
    "id": Options.text,
    "pci_segment": Options.integer,
    "pci_device_id": Options.integer,
}
_DISK: Final[Mapping[str, Reader]] = {
    "path": Options.text,
    "readonly": Options.toggle,
    "direct": Options.toggle,
    "num_queues": Options.integer,
    "queue_size": Options.integer,
    "serial": Options.text,
    "image_type": _choice(ImageType),
    "sparse": Options.toggle,
    "rate_limit_group": Options.text,
    "lock_granularity": _choice(LockGranularity),
    "_disable_io_uring": Options.toggle,
    "_disable_aio": Options.toggle,
    **_PCI,
}
_NET: Final[Mapping[str, Reader]] = {
    "tap": Options.text,
    "ip": Options.text,
    "mask": Options.text,
    "mac": Options.text,
    "host_mac": Options.text,
    "mtu": Options.integer,
    "num_queues": Options.integer,
    "queue_size": Options.integer,
    "offload_tso": Options.toggle,
    "offload_ufo": Options.toggle,
    "offload_csum": Options.toggle,
    "vhost": Options.toggle,
    **_PCI,
}
_RNG: Final[Mapping[str, Reader]] = {"src": Options.text, **_PCI}
_BALLOON: Final[Mapping[str, Reader]] = {
    "size": Options.size,
    "deflate_on_oom": Options.toggle,
    "free_page_reporting": Options.toggle,
    "statistics": Options.toggle,
    **_PCI,
}
_PMEM: Final[Mapping[str, Reader]] = {
    "file": Options.text,
    "size": Options.size,
    "discard_writes": Options.toggle,
    **_PCI,
}
_VSOCK: Final[Mapping[str, Reader]] = {"cid": Options.integer, "socket": Options.text, **_PCI}


def parse_disk(text: str) -> DiskConfig:
    """Read a value of ``--disk``."""
    return _device(DiskConfig, text, _DISK, limited=True)


def parse_net(text: str) -> NetConfig:
    """Read a value of ``--net``."""
    return _device(NetConfig, text, _NET, limited=True)


def parse_rng(text: str) -> RngConfig:
    """Read the value of ``--rng``."""
    return _device(RngConfig, text, _RNG, limited=True)


def parse_balloon(text: str) -> BalloonConfig:
    """Read the value of ``--balloon``."""
    return _device(BalloonConfig, text, _BALLOON)


def parse_pmem(text: str) -> PmemConfig:
    """Read a value of ``--pmem``."""
    return _device(PmemConfig, text, _PMEM)


def parse_vsock(text: str) -> VsockConfig:
    """Read the value of ``--vsock``."""
    return _device(VsockConfig, text, _VSOCK)


def parse_rate_limit_group(text: str) -> RateLimitGroupConfig:
    """Read a value of ``--rate-limit-group``."""
    return _device(RateLimitGroupConfig, text, {"id": Options.text}, limited=True)


def parse_serial(text: str) -> SerialConfig:
    """Read the value of ``--serial``."""
    return _terminal(SerialConfig, text, {})


def parse_console(text: str) -> ConsoleConfig:
    """Read the value of ``--console``."""
    return _terminal(ConsoleConfig, text, _PCI)


def _device(
    kind: type[_Config], text: str, readers: Mapping[str, Reader], *, limited: bool = False
) -> _Config:
    """Read an option into a configuration; what is not given is the configuration's default."""
    limits = [f"{short}_{key}" for short in _BUCKETS.values() for key in _BUCKET_KEYS]
    options = parse(text, keys=(*readers, *(limits if limited else ())))
    # As in the reference, an underscore marks what is for tests of the device alone.
    given = {name.removeprefix("_"): read(options, name) for name, read in readers.items()}
    if limited:
        given["rate_limiter_config"] = _limiter(options)
    return _make(kind, given)


def _terminal(kind: type[_Config], text: str, readers: Mapping[str, Reader]) -> _Config:
    options = parse(text, keys=("file", "socket", *readers), flags=_MODES)
    modes = [SerialMode(flag.capitalize()) for flag in options.flags]
    modes += [SerialMode(name.capitalize()) for name in ("file", "socket") if name in options]
    if len(modes) != 1:
        raise OptionError("expected exactly one of tty, pty, null, off, file=PATH, socket=PATH")
    given = {name: read(options, name) for name, read in readers.items()}
    paths = {name: options.text(name) for name in ("file", "socket")}
    return _make(kind, {"mode": modes[0], **paths, **given})


def _limiter(options: Options) -> RateLimiterConfig | None:
    buckets = {name: _bucket(options, short) for name, short in _BUCKETS.items()}
    return RateLimiterConfig(**buckets) if any(buckets.values()) else None


def _bucket(options: Options, short: str) -> TokenBucket | None:
    given = {key: options.size(f"{short}_{key}") for key in _BUCKET_KEYS}
    if all(value is None for value in given.values()):
        return None
    for key in ("size", "refill_time"):
        if given[key] is None:
            raise OptionError(f"a limit needs {short}_size and {short}_refill_time (in ms)")
    return _make(TokenBucket, given)


def _make(kind: type[_Config], given: Mapping[str, object]) -> _Config:
    values = {name: value for name, value in given.items() if value is not None}
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in values:
            raise OptionError(_missing(field.name))
    return kind(**values)


def _missing(name: str) -> str:
    if name == "rate_limiter_config":
        return "a limit is needed: bw_size and bw_refill_time, or ops_size and ops_refill_time"
    return f"'{name}' is missing: {name}=..."
