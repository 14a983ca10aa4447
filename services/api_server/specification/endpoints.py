# SPDX-License-Identifier: Apache-2.0
"""What each endpoint is for, with an example, in the order in which people read of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec.structs import replace

from api_server.event_text import CONTENT_TYPE, LAST_EVENT_ID
from api_server.responses import plain
from api_server.roster import WorkerInfo
from api_server.specification.failures import ON_THE_WAY
from ipc_protocol import config_unbuilt, messages_unbuilt
from ipc_protocol.errors import ErrorCode
from ipc_protocol.messages import VmInfo, VmState
from ipc_protocol.validation import parse_config

__all__ = ["CHAPTERS", "ENDPOINTS", "Endpoint"]


class Endpoint(NamedTuple):
    """The words about a route; all that can be derived is not here."""

    chapter: str
    summary: str
    description: str = ""
    body: Any = None
    """An example that works, if the endpoint takes a body."""
    answer: Any = None
    """An example of what comes back, if anything does."""
    state: VmState | None = None
    """What the VM has to be for the example; ``None``: there is none, or it does not matter."""
    refusal: ErrorCode | None = None
    """What the example is answered with, if not with success."""
    request: Any = None
    """The type of its body, if nothing is built that takes it."""
    result: Any = None
    """The type of what comes back, if no operation's signature has it."""
    media_types: tuple[str, ...] = ("application/json",)
    failures: frozenset[ErrorCode] = frozenset()
    """Codes beyond those of its kind."""
    headers: tuple[str, ...] = ()
    """Headers of a request that nothing else acts on."""
    endless: bool = False
    """Whether its answer goes on until the client has enough."""
    operation_id: str = ""
    """The name in Cloud Hypervisor's document, if it gives one."""


_MONITOR = "The monitor"
_VM = "The life of a VM"
_DEVICES = "Changing a VM"
_MISSING = "Not built yet"
_SERVER = "The server"

CHAPTERS: dict[str, str] = {
    _MONITOR: "A worker is there before its VM is created and after it is deleted.",
    _VM: "`vm.create` checks and stores a configuration, `vm.boot` builds the VM from it.",
    _DEVICES: "Before the VM is booted these change its configuration, which has to be valid as a "
    "whole afterwards. Of a booted VM only the balloon can be changed yet.",
    _SERVER: "These ask the API server; `Host` does not matter.",
    _MISSING: "These endpoints of Cloud Hypervisor's API are routed and answer 501 "
    "`not_supported`. A body has to be JSON all the same.",
}
"""Title of each chapter and what it begins with, in order."""

_EVENT = (
    "id: 4ccd3f8502c4f13c-3\n"
    "event: vm.booted\n"
    'data: {"timestamp":{"secs":1,"nanos":582326299},"source":"vm","event":"booted",'
    '"properties":null}'
)
_CONFIG = {
    "cpus": {"boot_vcpus": 1, "max_vcpus": 2},
    "memory": {"size": 134217728},
    "payload": {"kernel": "/boot/vmlinuz", "cmdline": "console=ttyS0 root=/dev/vda"},
    "disks": [{"id": "root", "path": "/var/lib/velum/root.img"}],
    "console": {"mode": "Off"},
}

_FILLED = parse_config(_CONFIG)
_INFO = plain(
    VmInfo(
        config=replace(_FILLED, rng=replace(_FILLED.rng, id="__rng")),
        state=VmState.CREATED,
        memory_actual_size=_FILLED.memory.size,
    )
)

ENDPOINTS: dict[str, Endpoint] = {
    "vmm.ping": Endpoint(
        _MONITOR,
        "Say who answers.",
        "Answered at once, whatever the worker is doing.",
        answer={
            "build_version": "v0.1.0",
            "version": "0.1.0",
            "pid": 4711,
            "features": ["kvm"],
        },
    ),
    "vmm.shutdown": Endpoint(
        _MONITOR,
        "End the worker, and with it its VM.",
        operation_id="shutdownVMM",
    ),
    "vmm.jobs": Endpoint(
        _MONITOR,
        "Show what is being changed, what waits for that, and what came of the last changes.",
        "The newest is the last; 64 are kept. Answered at once, whatever the worker is doing.",
        answer=[
            {
                "id": "3f2a9c01d7e4b865",
                "operation": "vm.boot",
                "state": "Running",
                "submitted": 1790000000.25,
                "started": 1790000000.25,
                "stage": "memory",
                "progress": 0.4,
                "request_id": "5f0c1d2e3a4b5968",
            }
        ],
    ),
    "vmm.cancel": Endpoint(
        _MONITOR,
        "Cancel a job.",
        "One that waits for its turn is over at once, one that runs where it next can be: a boot "
        "between its stages and while memory is prefaulted. Whoever waits for the operation is "
        "answered `operation_cancelled`; a boot or reboot that was cancelled leaves the VM "
        "`Created`.",
        body={"id": "3f2a9c01d7e4b865"},
        refusal=ErrorCode.JOB_UNKNOWN,
    ),
    "vmm.events": Endpoint(
        _MONITOR,
        "Stream the events of the VM and its worker as they happen.",
        "These are server-sent events, as of the HTML standard: `data` has the event as "
        "`--event-monitor` writes it, `event` has its source and name. A client that comes back "
        "with the last `id` it has in `Last-Event-ID` misses nothing: the worker keeps 1024 "
        "events, and what was lost all the same is told by the event `velum.lost`. "
        "`docs/events.md` lists them all.",
        result=str,
        media_types=(CONTENT_TYPE,),
        answer=_EVENT,
        headers=(LAST_EVENT_ID,),
        failures=ON_THE_WAY | {ErrorCode.TOO_MANY_READERS},
        endless=True,
    ),
    "vm.create": Endpoint(
        _VM,
        "Check and store the configuration of a VM.",
        "Builds nothing. Everything that is wrong is told at once, each field by its JSON "
        "pointer. Fields of Cloud Hypervisor's `VmConfig` that are not built yet are refused as "
        "`not_supported` unless their value asks for nothing.",
        body=_CONFIG,
        operation_id="createVM",
    ),
    "vm.info": Endpoint(
        _VM,
        "Show configuration, state and memory of the VM.",
        "The configuration has its defaults filled in, and each device its id; what is not set is "
        "absent. It can be given to `vm.create` as it is.",
        answer=_INFO,
        state=VmState.CREATED,
    ),
    "vm.boot": Endpoint(
        _VM,
        "Build the VM and start it.",
        "A boot that fails leaves the configuration as it was and nothing half-built.",
        operation_id="bootVM",
        state=VmState.CREATED,
    ),
    "vm.counters": Endpoint(
        _VM,
        "Show what devices and vCPUs have counted.",
        answer={"__serial": {"rx_bytes": 0, "tx_bytes": 5132}},
        state=VmState.RUNNING,
    ),
    "vm.pause": Endpoint(
        _VM,
        "Stop the vCPUs and the devices where they are.",
        operation_id="pauseVM",
        state=VmState.RUNNING,
    ),
    "vm.resume": Endpoint(
        _VM,
        "Let a paused VM go on.",
        state=VmState.PAUSED,
        operation_id="resumeVM",
    ),
    "vm.power-button": Endpoint(
        _VM,
        "Press the power button.",
        "A guest that listens for it shuts down by itself.",
        operation_id="power-buttonVM",
        state=VmState.RUNNING,
    ),
    "vm.nmi": Endpoint(
        _VM,
        "Send every vCPU a non-maskable interrupt.",
        state=VmState.RUNNING,
    ),
    "vmm.nmi": Endpoint(
        _VM,
        "Do what `vm.nmi` does.",
        "Clients made from Cloud Hypervisor's document of before v53 have it by this name.",
        state=VmState.RUNNING,
    ),
    "vm.reboot": Endpoint(
        _VM,
        "Boot the VM anew from its configuration.",
        operation_id="rebootVM",
        state=VmState.RUNNING,
    ),
    "vm.shutdown": Endpoint(
        _VM,
        "Stop the VM at once and keep its configuration.",
        "As if the power went. The state is `Created` again.",
        operation_id="shutdownVM",
        state=VmState.RUNNING,
    ),
    "vm.delete": Endpoint(
        _VM,
        "Forget the VM, stopping it first if it runs.",
        "Succeeds as well if there is none.",
        operation_id="deleteVM",
        state=VmState.CREATED,
    ),
    "vm.resize": Endpoint(
        _DEVICES,
        "Change vCPUs, memory or the balloon.",
        "Before the VM is booted this changes its configuration. A booted VM's balloon can be "
        "resized; its vCPUs and memory cannot yet.",
        body={"desired_vcpus": 2, "desired_ram": 268435456},
        state=VmState.CREATED,
    ),
    "vm.add-disk": Endpoint(
        _DEVICES,
        "Add a disk.",
        body={"id": "data", "path": "/var/lib/velum/data.img"},
        state=VmState.CREATED,
    ),
    "vm.add-net": Endpoint(
        _DEVICES,
        "Add a network device.",
        body={"id": "net0", "tap": "tap0"},
        state=VmState.CREATED,
    ),
    "vm.add-pmem": Endpoint(
        _DEVICES,
        "Add persistent memory.",
        body={"file": "/var/lib/velum/data.img"},
        state=VmState.CREATED,
    ),
    "vm.add-vsock": Endpoint(
        _DEVICES,
        "Add the vsock device; a VM has one at most.",
        body={"cid": 3, "socket": "/var/lib/velum/vsock"},
        state=VmState.CREATED,
    ),
    "vm.remove-device": Endpoint(
        _DEVICES,
        "Remove a device by its id.",
        "Ids are those that `vm.info` shows.",
        body={"id": "root"},
        state=VmState.CREATED,
    ),
    "vmm.list": Endpoint(
        _SERVER,
        "List the workers of this host with the state of their VMs.",
        "All are asked at once, and one that does not answer within a second is shown as "
        "`Unresponsive`.",
        result=tuple[WorkerInfo, ...],
        answer=[{"name": "web-1", "state": "Running", "pid": 4711}],
    ),
    "openapi.json": Endpoint(
        _SERVER,
        "This API in OpenAPI 3.1.",
        result=dict[str, Any],
        answer={"openapi": "3.1.0"},
    ),
    "openapi-3.0.json": Endpoint(
        _SERVER,
        "This API in OpenAPI 3.0.3, for generators that do not know 3.1.",
        "Says less: what a code is answered with, and what it cannot express, is left out.",
        result=dict[str, Any],
        answer={"openapi": "3.0.3"},
    ),
    "/metrics": Endpoint(
        _SERVER,
        "Metrics of the server, its workers and their VMs, for Prometheus.",
        result=str,
        media_types=("text/plain", "application/openmetrics-text"),
        answer="velum_up 1",
    ),
    "vm.resize-disk": Endpoint(
        _MISSING,
        "Resize a disk.",
        request=messages_unbuilt.VmResizeDisk,
        body={"id": "_disk0", "desired_size": 1073741824},
    ),
    "vm.resize-zone": Endpoint(
        _MISSING,
        "Resize a memory zone.",
        request=messages_unbuilt.VmResizeZone,
        body={"id": "zone0", "desired_ram": 1073741824},
    ),
    "vm.add-fs": Endpoint(
        _MISSING,
        "Share a directory of the host.",
        request=config_unbuilt.FsConfig,
        body={"tag": "share", "socket": "/run/virtiofsd.sock"},
    ),
    "vm.add-vdpa": Endpoint(
        _MISSING,
        "Add a vDPA device.",
        request=config_unbuilt.VdpaConfig,
        body={"path": "/dev/vhost-vdpa-0", "num_queues": 1},
    ),
    "vm.add-device": Endpoint(
        _MISSING,
        "Pass a device of the host through.",
        request=config_unbuilt.DeviceConfig,
        body={"path": "/sys/bus/pci/devices/0000:01:00.0"},
    ),
    "vm.add-user-device": Endpoint(
        _MISSING,
        "Add a vfio-user device.",
        request=config_unbuilt.UserDeviceConfig,
        body={"socket": "/run/device.sock"},
    ),
    "vm.add-generic-vhost-user": Endpoint(
        _MISSING,
        "Add any vhost-user device.",
        request=config_unbuilt.GenericVhostUserConfig,
        body={"socket": "/run/device.sock", "queue_sizes": [128], "device_type": 26},
    ),
    "vm.snapshot": Endpoint(
        _MISSING,
        "Save a paused VM.",
        request=messages_unbuilt.VmSnapshotConfig,
        body={"destination_url": "file:///var/lib/velum/snapshot"},
    ),
    "vm.restore": Endpoint(
        _MISSING,
        "Restore a saved VM.",
        request=messages_unbuilt.RestoreConfig,
        body={"source_url": "file:///var/lib/velum/snapshot"},
    ),
    "vm.coredump": Endpoint(
        _MISSING,
        "Dump the guest's memory.",
        request=messages_unbuilt.VmCoredumpData,
        body={"destination_url": "file:///var/lib/velum/core"},
    ),
    "vm.send-migration": Endpoint(
        _MISSING,
        "Move the VM to another worker.",
        request=messages_unbuilt.SendMigrationData,
        body={"destination_url": "tcp:host-2:6000"},
    ),
    "vm.receive-migration": Endpoint(
        _MISSING,
        "Take over a VM.",
        request=messages_unbuilt.ReceiveMigrationData,
        body={"receiver_url": "tcp:0.0.0.0:6000"},
    ),
}
"""By the name below ``/api/v1/``; what is elsewhere by its whole path."""
