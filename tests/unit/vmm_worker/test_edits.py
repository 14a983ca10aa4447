# SPDX-License-Identifier: Apache-2.0
"""What vm.add-* and vm.remove-device make of a configuration."""

from __future__ import annotations

import msgspec
import pytest

from ipc_protocol.config import CpusConfig, PayloadConfig, VmConfig
from ipc_protocol.config_devices import (
    BalloonConfig,
    DiskConfig,
    ImageType,
    NetConfig,
    PmemConfig,
    RngConfig,
    VsockConfig,
)
from ipc_protocol.errors import ErrorCode, VmError, VmFailure
from ipc_protocol.messages import SIGNATURES, Operation, VmRemoveDevice
from vmm_worker.devices.kinds import completed
from vmm_worker.edits import EDITS, edited

CONFIG = completed(
    VmConfig(
        PayloadConfig(kernel="/k"),
        cpus=CpusConfig(boot_vcpus=2, max_vcpus=2),
        disks=(DiskConfig(path="/a"), DiskConfig(path="/b", id="data")),
        net=(NetConfig(mac="52:54:00:00:00:01"),),
        rng=RngConfig(id="entropy"),
    )
)


def refusal(operation: Operation, body: object, config: VmConfig = CONFIG) -> VmError:
    with pytest.raises(VmFailure) as caught:
        edited(config, operation, body)
    return caught.value.error


@pytest.mark.parametrize(
    ("operation", "body", "field", "device_id"),
    [
        (Operation.VM_ADD_DISK, DiskConfig(path="/c"), "disks", "_disk2"),
        (Operation.VM_ADD_NET, NetConfig(), "net", "_net2"),
        (Operation.VM_ADD_PMEM, PmemConfig(file="/p"), "pmem", "_pmem2"),
        (Operation.VM_ADD_VSOCK, VsockConfig(cid=3, socket="/s", id="v"), "vsock", "v"),
    ],
)
def test_what_is_added_can_be_removed(
    operation: Operation, body: msgspec.Struct, field: str, device_id: str
) -> None:
    more = edited(CONFIG, operation, body)
    present = getattr(more, field)
    added = present[-1] if isinstance(present, tuple) else present
    assert added.id == device_id
    given = [name for name, value in msgspec.structs.asdict(body).items() if value is not None]
    assert all(getattr(added, name) == getattr(body, name) for name in given)
    assert edited(more, Operation.VM_REMOVE_DEVICE, VmRemoveDevice(device_id)) == CONFIG


def test_every_edit_has_its_signature() -> None:
    assert {each for each in Operation if each.startswith(("vm.add-", "vm.remove-"))} == EDITS
    assert all(SIGNATURES[each].result is None for each in EDITS)


def test_one_of_several_is_removed() -> None:
    less = edited(CONFIG, Operation.VM_REMOVE_DEVICE, VmRemoveDevice("_disk0"))
    assert [disk.path for disk in less.disks] == ["/b"]
    assert less.net == CONFIG.net


def test_what_is_there_at_most_once_is_removed_by_its_own_name() -> None:
    config = msgspec.structs.replace(
        CONFIG, balloon=BalloonConfig(size=0), watchdog=True, pvpanic=True
    )
    for name in ("__balloon", "__watchdog", "__pvpanic"):
        config = edited(config, Operation.VM_REMOVE_DEVICE, VmRemoveDevice(name))
    assert config == CONFIG


@pytest.mark.parametrize(
    ("device_id", "code", "says"),
    [
        ("nobody", ErrorCode.DEVICE_UNKNOWN, "_disk0, data, _net1, entropy"),
        ("__balloon", ErrorCode.DEVICE_UNKNOWN, "is none of"),
        ("entropy", ErrorCode.INVALID_REQUEST, "every VM has it, and rng says"),
        ("__console", ErrorCode.INVALID_REQUEST, "every VM has it, and console says"),
    ],
)
def test_what_cannot_be_removed_is_told(device_id: str, code: ErrorCode, says: str) -> None:
    error = refusal(Operation.VM_REMOVE_DEVICE, VmRemoveDevice(device_id))
    assert error.code is code
    assert [each.pointer for each in error.fields] == ["/id"]
    assert says in error.message


@pytest.mark.parametrize(
    ("body", "code", "pointers"),
    [
        (DiskConfig(path="/c", queue_size=100), ErrorCode.INVALID_CONFIG, ["/queue_size"]),
        (
            DiskConfig(path="/a", num_queues=3, serial="\u00e9"),
            ErrorCode.INVALID_CONFIG,
            ["/num_queues", "/serial", "/path"],
        ),
        (DiskConfig(path="/c", id="data"), ErrorCode.DUPLICATE_ID, ["/id"]),
        # The device that is made later was there first.
        (DiskConfig(path="/c", id="entropy"), ErrorCode.DUPLICATE_ID, ["/id"]),
        (
            DiskConfig(path="/c", image_type=ImageType.QCOW2),
            ErrorCode.NOT_SUPPORTED,
            ["/image_type"],
        ),
        (
            DiskConfig(path="/c", rate_limit_group="g"),
            ErrorCode.INVALID_CONFIG,
            ["/rate_limit_group"],
        ),
    ],
)
def test_a_device_that_does_not_fit_is_refused_by_its_own_fields(
    body: DiskConfig, code: ErrorCode, pointers: list[str]
) -> None:
    error = refusal(Operation.VM_ADD_DISK, body)
    assert error.code is code
    assert [each.pointer for each in error.fields] == pointers
    assert error.message.startswith("vm.add-disk: ")


def test_a_vm_has_no_room_for_more_devices_than_slots() -> None:
    disks = tuple(DiskConfig(path=f"/{number}") for number in range(28))
    full = completed(msgspec.structs.replace(CONFIG, disks=disks))
    error = refusal(Operation.VM_ADD_NET, NetConfig(), full)
    assert error.code is ErrorCode.INVALID_CONFIG
    assert [each.pointer for each in error.fields] == [""]
    assert "at most 31 PCI devices" in error.message


def test_a_vm_has_one_vsock_device() -> None:
    config = edited(CONFIG, Operation.VM_ADD_VSOCK, VsockConfig(cid=3, socket="/s"))
    error = refusal(Operation.VM_ADD_VSOCK, VsockConfig(cid=4, socket="/t"), config)
    assert error.code is ErrorCode.INVALID_CONFIG
    assert "_vsock2" in error.message
