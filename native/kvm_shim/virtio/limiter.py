# SPDX-License-Identifier: Apache-2.0
"""Token buckets: how much a device, or a group of them, may do in a time."""

from typing import NamedTuple

from kvm_shim._native import ffi, lib
from kvm_shim.device import Device
from kvm_shim.shim import Vm

__all__ = ["Bucket", "create_limiter"]


class Bucket(NamedTuple):
    """Tokens that come back with time.

    Attributes:
        size: Tokens for each refill time.
        refill_ms: Milliseconds from empty to full.
        one_time_burst: Tokens on top, once.
    """

    size: int
    refill_ms: int
    one_time_burst: int = 0


NO_LIMIT = Bucket(size=0, refill_ms=0)


def create_limiter(
    vm: Vm, *, bandwidth: Bucket | None = None, operations: Bucket | None = None
) -> Device:
    """Make a rate limiter for devices of the VM to share.

    Args:
        vm: The VM.
        bandwidth: In bytes; `None` for no limit.
        operations: In requests; `None` for no limit.
    """
    buckets = (
        ffi.new("kvmshim_bucket *", (bucket or NO_LIMIT)._asdict())
        for bucket in (bandwidth, operations)
    )
    return vm.device(Device, lib.kvmshim_limiter_create, *buckets)
