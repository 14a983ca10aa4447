# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for the devices of a configuration."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

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
    SerialMode,
    TokenBucket,
    VsockConfig,
)

__all__ = ["PATH", "devices", "disk", "net"]

PATH = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
QUEUE_SIZE = st.sampled_from([4, 64, 128, 1024])
MAC = st.none() | st.sampled_from(["52:54:00:00:00:01", "02:00:00:AB:cd:ef"])
ADDRESSES = st.sampled_from(
    [(None, None), ("10.0.0.1", "255.255.255.0"), ("fd00::1", "ffff:ffff:ffff:ffff::")]
)
BUCKET = st.builds(
    TokenBucket,
    size=st.integers(1, (1 << 63) - 1),
    refill_time=st.integers(1, 86_400_000),
    one_time_burst=st.integers(0, 1 << 40),
)
LIMITER = st.builds(RateLimiterConfig, bandwidth=BUCKET, ops=st.none() | BUCKET)
CONSOLE = st.builds(
    ConsoleConfig,
    mode=st.sampled_from([SerialMode.OFF, SerialMode.PTY, SerialMode.TTY, SerialMode.NULL]),
)


@st.composite
def disk(draw: st.DrawFn, vcpus: int, groups: list[str]) -> DiskConfig:
    """Draw a disk; its path is given later."""
    group = draw(st.none() | st.sampled_from(groups)) if groups else None
    return DiskConfig(
        path="/disk",
        readonly=draw(st.booleans()),
        direct=draw(st.booleans()),
        num_queues=draw(st.integers(1, vcpus)),
        queue_size=draw(QUEUE_SIZE),
        serial=draw(st.none() | st.text("abc 123", max_size=20)),
        image_type=draw(st.sampled_from([ImageType.RAW, ImageType.UNKNOWN])),
        sparse=draw(st.booleans()),
        rate_limit_group=group,
        rate_limiter_config=None if group else draw(st.none() | LIMITER),
        lock_granularity=draw(st.sampled_from(LockGranularity)),
    )


@st.composite
def net(draw: st.DrawFn, vcpus: int) -> NetConfig:
    """Draw a network interface; its name and MAC are given later."""
    ip, mask = draw(ADDRESSES)
    checksums = draw(st.booleans())
    return NetConfig(
        ip=ip,
        mask=mask,
        host_mac=draw(MAC),
        mtu=draw(st.none() | st.integers(1280, 65535)),
        num_queues=2 * draw(st.integers(1, min(vcpus, 128))),
        queue_size=draw(QUEUE_SIZE),
        offload_csum=checksums,
        offload_tso=checksums and draw(st.booleans()),
        offload_ufo=checksums and draw(st.booleans()),
        rate_limiter_config=draw(st.none() | LIMITER),
        vhost=draw(st.booleans()),
    )


@st.composite
def devices(draw: st.DrawFn, *, vcpus: int, memory: int) -> dict[str, Any]:
    """Draw all fields of a configuration that are devices."""
    groups = [f"group{index}" for index in range(draw(st.integers(0, 2)))]
    disks = draw(st.lists(disk(vcpus, groups), max_size=3))
    nets = draw(st.lists(net(vcpus), max_size=3))
    return {
        "console": draw(CONSOLE),
        "rate_limit_groups": tuple(RateLimitGroupConfig(each, draw(LIMITER)) for each in groups),
        "disks": tuple(
            msgspec.structs.replace(each, path=f"/disk{index}", id=draw(ids(f"disk{index}")))
            for index, each in enumerate(disks)
        ),
        "net": tuple(
            msgspec.structs.replace(each, tap=f"tap{index}", mac=f"52:54:00:12:34:{index:02x}")
            for index, each in enumerate(nets)
        ),
        "rng": RngConfig(id=draw(ids("rng")), rate_limiter_config=draw(st.none() | LIMITER)),
        "pmem": tuple(
            PmemConfig(file=f"/pmem{index}", size=draw(st.none() | st.just(4 << 20)))
            for index in range(draw(st.integers(0, 2)))
        ),
        "vsock": draw(st.none() | st.just(VsockConfig(cid=3, socket="/vsock"))),
        "balloon": draw(
            st.none() | st.builds(BalloonConfig, size=st.sampled_from([0, 4096, memory - 4096]))
        ),
        "watchdog": draw(st.booleans()),
        "pvpanic": draw(st.booleans()),
    }


def ids(name: str) -> st.SearchStrategy[str | None]:
    """Draw a name, or none."""
    return st.none() | st.just(name)
