# SPDX-License-Identifier: Apache-2.0
"""The devices of a ``VmConfig``, field for field as Cloud Hypervisor's API has them.

The rules of ``ipc_protocol.config`` hold here: each field with the range it may have by
itself; what must hold between fields is in ``ipc_protocol.rules_devices``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = [
    "DEFAULT_IDS",
    "MAX_PCI_DEVICES",
    "BalloonConfig",
    "BalloonSize",
    "ConsoleConfig",
    "DiskConfig",
    "ImageType",
    "LockGranularity",
    "NetConfig",
    "Path",
    "PciFields",
    "PmemConfig",
    "RateLimitGroupConfig",
    "RateLimiterConfig",
    "RngConfig",
    "SerialConfig",
    "SerialMode",
    "SocketPath",
    "TapName",
    "TokenBucket",
    "VsockConfig",
]

MAX_PCI_DEVICES = 31
"""Bus 0 has 32 slots, the first of which is the host bridge's."""

DEFAULT_IDS = {
    "console": "__console",
    "disks": "_disk",
    "net": "_net",
    "rng": "__rng",
    "pmem": "_pmem",
    "vsock": "_vsock",
    "balloon": "__balloon",
    "watchdog": "__watchdog",
    "pvpanic": "__pvpanic",
}
"""What a device without an id is called, by its field: with ``__`` the only one of its kind,
else what its number follows. In the order in which devices are made."""

Path = Annotated[str, Meta(min_length=1, max_length=4095)]
"""A path in the worker's view of the file system; a relative one is from its directory."""
SocketPath = Annotated[str, Meta(min_length=1, max_length=96)]
"""The same of a UNIX socket, with room for what is put behind it."""
TapName = Annotated[str, Meta(min_length=1, max_length=15)]
"""A network interface of the host."""
DeviceId = Annotated[str, Meta(min_length=1, max_length=31)]
QueueSize = Annotated[int, Meta(ge=4, le=1024)]
"""A power of two. The upper bound is ours: it bounds what one chain of descriptors costs."""
BalloonSize = Annotated[int, Meta(ge=0, multiple_of=4096)]
Count = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]


class TokenBucket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many tokens, each refilled by as much in so much time."""

    size: Count
    """Tokens for each refill time: bytes or operations."""
    refill_time: Annotated[int, Meta(ge=1, le=86_400_000)]
    """Milliseconds from empty to full."""
    one_time_burst: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] | None = None
    """Tokens on top, once in the life of the VM's machine."""


class RateLimiterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device may do in a time; at least one of the two."""

    bandwidth: TokenBucket | None = None
    """In bytes."""
    ops: TokenBucket | None = None
    """In operations."""


class RateLimitGroupConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A limit that several disks share."""

    id: DeviceId
    rate_limiter_config: RateLimiterConfig


class PciFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every PCI device may be told."""

    id: DeviceId | None = None
    """Its name in ``vm.info``, ``vm.counters`` and the log."""
    pci_segment: int = 0
    pci_device_id: Annotated[int, Meta(ge=1, le=MAX_PCI_DEVICES)] | None = None
    """Its slot on bus 0; the first free one when not given."""


class ImageType(StrEnum):
    """What a disk image is. It is never found out by looking at its content."""

    FIXED_VHD = "FixedVhd"
    QCOW2 = "Qcow2"
    RAW = "Raw"
    VHDX = "Vhdx"
    FLAT_VMDK = "FlatVmdk"
    UNKNOWN = "Unknown"
    """Raw: guessing would let a guest write itself another format's header."""


class LockGranularity(StrEnum):
    """What of a disk image is locked."""

    BYTE_RANGE = "ByteRange"
    FULL = "Full"


class DiskConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A raw image or a block device as virtio-blk."""

    path: Path
    readonly: bool = False
    direct: bool = False
    """With O_DIRECT: past the host's page cache."""
    num_queues: Annotated[int, Meta(ge=1, le=254)] = 1
    queue_size: QueueSize = 128
    serial: Annotated[str, Meta(max_length=20)] | None = None
    """At most 20 bytes of ASCII; the guest sees it as the disk's serial number."""
    image_type: ImageType = ImageType.UNKNOWN
    sparse: bool = True
    """Offer discard and write-zeroes, which make holes in the image."""
    rate_limiter_config: RateLimiterConfig | None = None
    rate_limit_group: DeviceId | None = None
    """The id of one of ``rate_limit_groups``."""
    lock_granularity: LockGranularity = LockGranularity.BYTE_RANGE
    disable_io_uring: bool = False
    disable_aio: bool = False
    """Accepted and without effect: Linux AIO is never used."""


class NetConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tap interface as virtio-net."""

    tap: TapName | None = None
    """The name of the host's interface; it is made when there is none of that name."""
    ip: str | None = None
    """Address of the host's end, with ``mask``."""
    mask: str | None = None
    mac: str | None = None
    """The guest's; a random one when not given."""
    host_mac: str | None = None
    mtu: Annotated[int, Meta(ge=1280, le=65535)] | None = None
    num_queues: Annotated[int, Meta(ge=2, le=256)] = 2
    """Half of them receive, half of them send."""
    queue_size: QueueSize = 256
    offload_tso: bool = True
    offload_ufo: bool = True
    offload_csum: bool = True
    rate_limiter_config: RateLimiterConfig | None = None
    """For each direction."""
    vhost: bool = True
    """Let the host's kernel move the frames where it can (an addition of Velum's)."""


class RngConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Entropy for the guest."""

    src: Path = "/dev/urandom"
    rate_limiter_config: RateLimiterConfig | None = None
    """An addition of Velum's."""


class SerialMode(StrEnum):
    """Where a serial port or a console goes."""

    OFF = "Off"
    PTY = "Pty"
    TTY = "Tty"
    FILE = "File"
    SOCKET = "Socket"
    NULL = "Null"


class SerialConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """COM1."""

    mode: SerialMode = SerialMode.NULL
    file: Path | None = None
    """For ``File``: written from the start. For ``Pty``, in ``vm.info``: its path."""
    socket: Path | None = None
    """For ``Socket``: the path the worker listens on."""


class ConsoleConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The virtio console; its fields are as the serial port's."""

    mode: SerialMode = SerialMode.TTY
    file: Path | None = None
    socket: Path | None = None


class BalloonConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Memory that the guest gives back to the host."""

    size: BalloonSize
    """Bytes asked from the guest."""
    deflate_on_oom: bool = False
    free_page_reporting: bool = False
    statistics: bool = False
    """Have the guest report on its memory, in ``vm.counters`` (an addition of Velum's)."""


class PmemConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file as persistent memory."""

    file: Path
    size: Annotated[int, Meta(ge=2 << 20, multiple_of=2 << 20)] | None = None
    """Bytes; the file's own size when not given."""
    discard_writes: bool = False
    """The guest's writes are seen by it alone and forgotten at the VM's end."""


class VsockConfig(PciFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sockets between host and guest."""

    cid: Annotated[int, Meta(ge=3, le=0xFFFFFFFE)]
    """The guest's address; 0 to 2 and the highest are reserved (virtio 1.2, 5.10.4)."""
    socket: SocketPath
    """The UNIX socket for the host's side; a guest's connection goes to ``<socket>_<port>``."""
