# SPDX-License-Identifier: Apache-2.0
"""How much a device, or a group of them, may do in a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvm_shim.virtio import limiter

if TYPE_CHECKING:
    from ipc_protocol.config_devices import RateLimiterConfig, TokenBucket
    from kvm_shim import Device, Vm

__all__ = ["LimiterGroup", "create_limiter"]


class LimiterGroup:
    """A limit that several devices share, in whichever machine there is."""

    def __init__(self, config: RateLimiterConfig) -> None:
        self._config = config
        self._vm: Vm | None = None
        self._limiter: Device | None = None

    def attach(self, vm: Vm) -> Device | None:
        """Return the machine's limiter: the first device to ask has it made."""
        if self._vm is not vm:
            self._limiter = create_limiter(vm, self._config)
            self._vm = vm
        return self._limiter


def create_limiter(vm: Vm, config: RateLimiterConfig | None) -> Device | None:
    """Make the limiter of a new machine's device, if it is to have one."""
    if config is None:
        return None
    return limiter.create_limiter(
        vm, bandwidth=_bucket(config.bandwidth), operations=_bucket(config.ops)
    )


def _bucket(config: TokenBucket | None) -> limiter.Bucket | None:
    if config is None:
        return None
    return limiter.Bucket(config.size, config.refill_time, config.one_time_burst or 0)
