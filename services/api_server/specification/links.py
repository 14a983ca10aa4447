# SPDX-License-Identifier: Apache-2.0
"""What a VM's operator may want next: the ways through the API that its document shows."""

from __future__ import annotations

from typing import Final

from ipc_protocol.messages import Operation

__all__ = ["NEXT"]

_READS: Final = (Operation.VM_INFO, Operation.VM_COUNTERS)

NEXT: Final[dict[Operation, tuple[Operation, ...]]] = {
    Operation.VM_CREATE: (
        Operation.VM_BOOT,
        Operation.VM_INFO,
        Operation.VM_ADD_DISK,
        Operation.VM_ADD_NET,
        Operation.VM_ADD_PMEM,
        Operation.VM_ADD_VSOCK,
        Operation.VM_RESIZE,
        Operation.VM_DELETE,
    ),
    Operation.VM_BOOT: (
        *_READS,
        Operation.VM_PAUSE,
        Operation.VM_POWER_BUTTON,
        Operation.VM_NMI,
        Operation.VM_RESIZE,
        Operation.VM_REBOOT,
        Operation.VM_SHUTDOWN,
        Operation.VM_DELETE,
    ),
    Operation.VM_PAUSE: (*_READS, Operation.VM_RESUME, Operation.VM_SHUTDOWN),
    Operation.VM_RESUME: (*_READS, Operation.VM_PAUSE, Operation.VM_SHUTDOWN),
    Operation.VM_REBOOT: (*_READS, Operation.VM_SHUTDOWN),
    Operation.VM_SHUTDOWN: (Operation.VM_INFO, Operation.VM_BOOT, Operation.VM_DELETE),
    Operation.VM_DELETE: (Operation.VM_CREATE,),
    Operation.VM_RESIZE: (Operation.VM_INFO, Operation.VM_BOOT),
    Operation.VM_ADD_DISK: (Operation.VM_BOOT, Operation.VM_REMOVE_DEVICE),
    Operation.VM_ADD_NET: (Operation.VM_BOOT, Operation.VM_REMOVE_DEVICE),
    Operation.VM_ADD_PMEM: (Operation.VM_BOOT, Operation.VM_REMOVE_DEVICE),
    Operation.VM_ADD_VSOCK: (Operation.VM_BOOT, Operation.VM_REMOVE_DEVICE),
    Operation.VMM_JOBS: (Operation.VMM_CANCEL,),
}
"""Operation -> those that its success makes sense of."""
