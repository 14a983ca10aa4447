# SPDX-License-Identifier: Apache-2.0
"""The virtio disk."""

from enum import IntEnum
from typing import NamedTuple

from kvm_shim._native import ffi, lib
from kvm_shim.device import Device
from kvm_shim.handle import checked
from kvm_shim.shim import Vm
from kvm_shim.virtio.create import create
from kvm_shim.virtio.place import Place

__all__ = ["Block", "BlockConfig", "BlockEngine", "create_block"]


class BlockEngine(IntEnum):
    """What carries out the operations on the file."""

    AUTO = lib.KVMSHIM_BLOCK_AUTO
    """io_uring, or threads where the host refuses that."""
    URING = lib.KVMSHIM_BLOCK_URING
    THREADS = lib.KVMSHIM_BLOCK_THREADS


class BlockConfig(NamedTuple):
    """What a disk is like.

    Attributes:
        fd: A raw image or a block device, open as it is to be used (O_DIRECT, say); it stays
            the caller's.
        readonly: Whether the guest may only read.
        sparse: Whether the guest may discard, and write zeroes, by deallocating.
        engine: What is to carry out the operations.
        num_queues: Each has a thread of its own.
        queue_size: A power of two from 4 to 1024.
        serial: Up to 20 bytes that the guest sees as the serial number.
        limiter: What `create_limiter` made; `None` for no limit.
    """

    fd: int
    readonly: bool = False
    sparse: bool = True
    engine: BlockEngine = BlockEngine.AUTO
    num_queues: int = 1
    queue_size: int = 128
    serial: bytes = b""
    limiter: Device | None = None


class Block(Device):
    """A virtio disk."""

    @property
    def engine(self) -> BlockEngine:
        """The engine in use."""
        with self._handle.use():
            return BlockEngine(checked(lib.kvmshim_block_engine, self._device))


def create_block(vm: Vm, place: Place, config: BlockConfig) -> Block:
    """Make a disk."""
    limiter = ffi.NULL if config.limiter is None else config.limiter.pointer
    fields = ffi.new("kvmshim_block_config *", {**config._asdict(), "limiter": limiter})
    return create(Block, lib.kvmshim_block_create, vm, place, fields)
