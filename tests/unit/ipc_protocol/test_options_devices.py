# SPDX-License-Identifier: Apache-2.0
"""The devices' options, from their text to the configuration."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given

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
from ipc_protocol.options import OptionError
from ipc_protocol.options_devices import (
    parse_balloon,
    parse_console,
    parse_disk,
    parse_net,
    parse_pmem,
    parse_rate_limit_group,
    parse_rng,
    parse_serial,
    parse_vsock,
)
from tests.unit.ipc_protocol.strategies_devices import disk, net


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("path=/a", DiskConfig(path="/a")),
        ('path="/a,b",readonly=', DiskConfig(path="/a,b")),
        (
            "path=/a,readonly=on,direct=true,sparse=off,num_queues=2,queue_size=256,serial=s 1",
            DiskConfig(
                path="/a",
                readonly=True,
                direct=True,
                sparse=False,
                num_queues=2,
                queue_size=256,
                serial="s 1",
            ),
        ),
        (
            "path=/a,id=x,pci_segment=0,pci_device_id=5,rate_limit_group=slow",
            DiskConfig(path="/a", id="x", pci_device_id=5, rate_limit_group="slow"),
        ),
        ("path=/a,image_type=raw", DiskConfig(path="/a", image_type=ImageType.RAW)),
        ("path=/a,image_type=fixed_vhd", DiskConfig(path="/a", image_type=ImageType.FIXED_VHD)),
        ("path=/a,image_type=FlatVmdk", DiskConfig(path="/a", image_type=ImageType.FLAT_VMDK)),
        (
            "path=/a,lock_granularity=byte-range",
            DiskConfig(path="/a", lock_granularity=LockGranularity.BYTE_RANGE),
        ),
        (
            "path=/a,_disable_io_uring=on,_disable_aio=on",
            DiskConfig(path="/a", disable_io_uring=True, disable_aio=True),
        ),
        (
            (
                "path=/a,bw_size=10M,bw_refill_time=100,ops_size=5,ops_refill_time=1,"
                "ops_one_time_burst=7"
            ),
            DiskConfig(
                path="/a",
                rate_limiter_config=RateLimiterConfig(
                    bandwidth=TokenBucket(10 << 20, 100), ops=TokenBucket(5, 1, 7)
                ),
            ),
        ),
    ],
)
def test_disk(text: str, config: DiskConfig) -> None:
    assert parse_disk(text) == config


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("tap=", NetConfig()),
        ("", NetConfig()),
        (
            (
                "tap=tap0,mac=52:54:00:12:34:56,host_mac=02:00:00:00:00:01,ip=10.0.0.1,"
                "mask=255.255.255.0,mtu=1400,num_queues=4,queue_size=512"
            ),
            NetConfig(
                tap="tap0",
                mac="52:54:00:12:34:56",
                host_mac="02:00:00:00:00:01",
                ip="10.0.0.1",
                mask="255.255.255.0",
                mtu=1400,
                num_queues=4,
                queue_size=512,
            ),
        ),
        (
            "offload_tso=off,offload_ufo=off,offload_csum=off,vhost=off",
            NetConfig(offload_tso=False, offload_ufo=False, offload_csum=False, vhost=False),
        ),
        (
            "tap=t,bw_size=1,bw_refill_time=2",
            NetConfig(tap="t", rate_limiter_config=RateLimiterConfig(bandwidth=TokenBucket(1, 2))),
        ),
    ],
)
def test_net(text: str, config: NetConfig) -> None:
    assert parse_net(text) == config


@pytest.mark.parametrize(
    ("reader", "text", "config"),
    [
        (parse_rng, "src=/dev/hwrng", RngConfig(src="/dev/hwrng")),
        (
            parse_balloon,
            "size=64M,deflate_on_oom=on,free_page_reporting=on,statistics=on",
            BalloonConfig(
                size=64 << 20, deflate_on_oom=True, free_page_reporting=True, statistics=True
            ),
        ),
        (
            parse_pmem,
            "file=/p,size=2M,discard_writes=on,id=p",
            PmemConfig(file="/p", size=2 << 20, discard_writes=True, id="p"),
        ),
        (parse_vsock, "cid=3,socket=/v", VsockConfig(cid=3, socket="/v")),
        (
            parse_rate_limit_group,
            "id=slow,ops_size=100,ops_refill_time=1000",
            RateLimitGroupConfig("slow", RateLimiterConfig(ops=TokenBucket(100, 1000))),
        ),
        (parse_console, "tty", ConsoleConfig()),
        (
            parse_console,
            "socket=/c,id=c,pci_device_id=9",
            ConsoleConfig(mode=SerialMode.SOCKET, socket="/c", id="c", pci_device_id=9),
        ),
    ],
)
def test_the_others(
    reader: Callable[[str], msgspec.Struct], text: str, config: msgspec.Struct
) -> None:
    assert reader(text) == config


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (parse_disk, "readonly=on", "'path' is missing: path=..."),
        (parse_disk, "path=/a,pth=/b", "unknown key 'pth'"),
        (parse_disk, "path=/a,image_type=ext4", "image_type=ext4: expected one of FixedVhd"),
        (parse_disk, "path=/a,sparse=maybe", "sparse=maybe: expected on, off"),
        (parse_disk, "path=/a,bw_size=1", "bw_size and bw_refill_time"),
        (parse_disk, "path=/a,ops_one_time_burst=1", "ops_size and ops_refill_time"),
        (parse_disk, "path=/a,path=/b", "'path' is given twice"),
        (parse_net, "mtu=-1", "mtu=-1: expected a decimal number"),
        (parse_balloon, "", "'size' is missing"),
        (parse_pmem, "size=2M", "'file' is missing"),
        (parse_vsock, "cid=3", "'socket' is missing"),
        (parse_rate_limit_group, "id=a", "a limit is needed"),
        (parse_rate_limit_group, "ops_size=1,ops_refill_time=1", "'id' is missing"),
        (parse_console, "tty,pty", "exactly one of"),
        (parse_console, "id=c", "exactly one of"),
        (parse_serial, "tty,id=c", "unknown key 'id'"),
    ],
)
def test_what_is_refused(reader: Callable[[str], msgspec.Struct], text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message.replace(".", "\\.")):
        reader(text)


def spelled(config: msgspec.Struct) -> str:
    """Write a configuration as an option, with everything that is not the default."""
    parts = []
    for field in msgspec.structs.fields(config):
        value = getattr(config, field.name)
        if value is None or value == field.default:
            continue
        if isinstance(value, RateLimiterConfig):
            for short, bucket in (("bw", value.bandwidth), ("ops", value.ops)):
                if bucket is not None:
                    values = msgspec.structs.asdict(bucket).items()
                    parts += [f"{short}_{key}={number}" for key, number in values]
        elif isinstance(value, bool):
            parts.append(f"{field.name}={'on' if value else 'off'}")
        else:
            parts.append(f'{field.name}="{value}"')
    return ",".join(parts)


@given(disk(vcpus=4, groups=["slow"]))
def test_every_disk_can_be_spelled(config: DiskConfig) -> None:
    # An empty value counts as not given.
    meant = msgspec.structs.replace(config, serial=config.serial or None)
    assert parse_disk(spelled(config)) == meant


@given(net(vcpus=4))
def test_every_network_device_can_be_spelled(config: NetConfig) -> None:
    assert parse_net(spelled(config)) == config
