# SPDX-License-Identifier: Apache-2.0
"""Where the host runs the threads of vCPUs, and beside whom (``cpus.affinity`` and others)."""

from __future__ import annotations

import errno
import logging
from typing import Final

from ipc_protocol.config import CoreScheduling, CpusConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmFailure
from kvm_shim import CoreScope, ShimError, Vm

__all__ = ["schedule_vcpus"]

_log = logging.getLogger(__name__)

_SCOPES: Final = {CoreScheduling.VM: CoreScope.VM, CoreScheduling.VCPU: CoreScope.VCPU}


def schedule_vcpus(vm: Vm, cpus: CpusConfig) -> None:
    """Place the started vCPUs of a VM as they are configured.

    Raises:
        VmFailure: ``host_resource`` for a CPU that is not there, or not for this worker.
    """
    for index, affinity in enumerate(cpus.affinity):
        if affinity.vcpu < cpus.boot_vcpus:
            _pin(vm, affinity.vcpu, affinity.host_cpus, f"/cpus/affinity/{index}/host_cpus")
    if cpus.core_scheduling in _SCOPES:
        _keep_apart(vm, cpus.core_scheduling)


def _pin(vm: Vm, vcpu: int, host_cpus: tuple[int, ...], pointer: str) -> None:
    try:
        vm.set_affinity(vcpu, host_cpus)
    except ShimError as ex:
        if ex.errno != errno.ENODEV:
            raise
        reason = f"{ex.context}: it is offline, not there, or not this worker's (AllowedCPUs=)"
        raise VmFailure(
            ErrorCode.HOST_RESOURCE,
            f"vCPU {vcpu} cannot be placed as {pointer} says: {reason}",
            causes=(str(ex),),
            fields=(FieldError(pointer, reason),),
        ) from ex


def _keep_apart(vm: Vm, mode: CoreScheduling) -> None:
    try:
        vm.schedule_cores(_SCOPES[mode])
    except ShimError as ex:
        if ex.errno == errno.ENODEV:  # one hardware thread a core: nobody is ever beside a vCPU
            return
        if ex.errno != errno.EOPNOTSUPP:
            raise
        _log.info("cpus.core_scheduling %s: %s; the VM runs without", mode, ex.context)
