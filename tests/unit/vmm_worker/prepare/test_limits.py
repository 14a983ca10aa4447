# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ipc_protocol.validation import parse_file
from vmm_worker.prepare.limits import properties

KERNEL = {"payload": {"kernel": "/k"}}
MIB = 1 << 20


def test_every_vm_has_as_much_as_it_needs_and_no_more() -> None:
    file = parse_file({**KERNEL, "cpus": {"boot_vcpus": 1, "max_vcpus": 3}})
    assert list(properties(file)) == [f"MemoryMax={768 * MIB}", "CPUQuota=400%"]


def test_the_host_s_words_are_systemd_s() -> None:
    host = {
        "memory_max": "1G",
        "cpu_quota": 50,
        "cpu_weight": 20,
        "io_weight": 30,
        "tasks_max": 40,
        "io_read_bandwidth_max": {"/dev/vda": 5, "/dev/vdb": 6},
        "io_write_bandwidth_max": {"/srv": 7},
    }
    assert list(properties(parse_file({**KERNEL, "host": host}))) == [
        f"MemoryMax={1024 * MIB}",
        "CPUQuota=50%",
        "CPUWeight=20",
        "IOWeight=30",
        "TasksMax=40",
        "IOReadBandwidthMax=/dev/vda 5",
        "IOReadBandwidthMax=/dev/vdb 6",
        "IOWriteBandwidthMax=/srv 7",
    ]
