# SPDX-License-Identifier: Apache-2.0
"""The one table from the counters of ``vm.counters`` to the metrics of Prometheus.

A worker's word is not taken for the name of a metric: what is not in the table is not told.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = [
    "BOOT",
    "DERIVED",
    "DEVICE",
    "QUEUE",
    "VCPU_EXITS",
    "VCPU_SECONDS",
    "VCPU_UNCLAIMED",
    "Told",
]

_US: Final = 1e-6


class Told(NamedTuple):
    """How a counter is told."""

    metric: str
    """Of a counter, without its ``_total``."""
    description: str
    gauge: bool = False
    """Whether it can fall."""
    scale: float = 1
    """What makes it the base unit of its kind."""


DEVICE: Final[dict[str, Told]] = {
    # Every virtio device.
    "errors": Told("velum_device_driver_errors", "Faults of the guest's driver."),
    "throttled_us": Told(
        "velum_device_throttled_seconds", "Time for which a rate limiter held it up.", scale=_US
    ),
    # Disks.
    "read_bytes": Told("velum_device_read_bytes", "Bytes read."),
    "write_bytes": Told("velum_device_write_bytes", "Bytes written."),
    "read_ops": Told("velum_device_read_ops", "Reads."),
    "write_ops": Told("velum_device_write_ops", "Writes."),
    "flush_ops": Told("velum_device_flush_ops", "Flushes of a disk."),
    "discard_ops": Told("velum_device_discard_ops", "Discards."),
    "write_zeroes_ops": Told("velum_device_write_zeroes_ops", "Writes of nothing but zeroes."),
    "io_errors": Told("velum_device_io_errors", "Requests that the host could not serve."),
    "read_latency_sum": Told("velum_device_read_seconds", "Time of all reads.", scale=_US),
    "write_latency_sum": Told("velum_device_write_seconds", "Time of all writes.", scale=_US),
    "read_latency_min": Told(
        "velum_device_read_min_seconds", "Shortest read since the boot.", gauge=True, scale=_US
    ),
    "read_latency_max": Told(
        "velum_device_read_max_seconds", "Longest read since the boot.", gauge=True, scale=_US
    ),
    "write_latency_min": Told(
        "velum_device_write_min_seconds", "Shortest write since the boot.", gauge=True, scale=_US
    ),
    "write_latency_max": Told(
        "velum_device_write_max_seconds", "Longest write since the boot.", gauge=True, scale=_US
    ),
    # Networks and sockets, by the direction that the guest sees.
    "rx_bytes": Told("velum_device_receive_bytes", "Bytes that the guest received."),
    "tx_bytes": Told("velum_device_transmit_bytes", "Bytes that the guest sent."),
    "rx_frames": Told("velum_device_receive_frames", "Frames that the guest received."),
    "tx_frames": Told("velum_device_transmit_frames", "Frames that the guest sent."),
    "rx_dropped": Told("velum_device_receive_dropped", "Frames the guest had no room for."),
    "tx_dropped": Told("velum_device_transmit_dropped", "Frames the host had no room for."),
    "tx_malformed": Told("velum_device_transmit_malformed", "Frames that were none."),
    "rx_packets": Told("velum_device_receive_packets", "Vsock packets that the guest received."),
    "tx_packets": Told("velum_device_transmit_packets", "Vsock packets that the guest sent."),
    "connections": Told(
        "velum_device_open_connections", "Vsock connections at present.", gauge=True
    ),
    "connections_total": Told("velum_device_connections", "Vsock connections so far."),
    "refused": Told("velum_device_refused_connections", "Vsock connections refused."),
    # Serial port and console.
    "transmitted": Told("velum_device_output_bytes", "Bytes that the guest wrote to it."),
    "received": Told("velum_device_input_bytes", "Bytes typed to the guest."),
    "dropped": Told("velum_device_dropped_bytes", "Bytes of output that nobody took."),
    "overruns": Told("velum_device_overruns", "Bytes typed that the guest read too late."),
    # One kind each.
    "bytes": Told("velum_device_entropy_bytes", "Random bytes given."),
    "flushes": Told("velum_device_flushes", "Flushes of persistent memory."),
    "flush_errors": Told("velum_device_flush_errors", "Flushes that the host could not do."),
    "panics": Told("velum_device_panics", "Crashes that the guest's kernel reported."),
    "visits": Told("velum_device_watchdog_visits", "How often the guest came by."),
    # The balloon.
    "target_bytes": Told("velum_device_target_bytes", "Balloon asked for.", gauge=True),
    "actual_bytes": Told("velum_device_actual_bytes", "Balloon at present.", gauge=True),
    "inflated_bytes": Told("velum_device_inflated_bytes", "Memory the guest gave up."),
    "deflated_bytes": Told("velum_device_deflated_bytes", "Memory the guest took back."),
    "reported_bytes": Told("velum_device_reported_bytes", "Memory reported to be free."),
    "kept_bytes": Told("velum_device_kept_bytes", "Of both, what the host could not free."),
    # What the guest says about its memory, which is its word and no more.
    "guest_total_bytes": Told("velum_guest_total_bytes", "Memory it knows.", gauge=True),
    "guest_free_bytes": Told("velum_guest_free_bytes", "Memory without any use.", gauge=True),
    "guest_available_bytes": Told(
        "velum_guest_available_bytes", "Memory free without swapping.", gauge=True
    ),
    "guest_disk_caches_bytes": Told("velum_guest_cache_bytes", "Disk caches.", gauge=True),
    "guest_swap_in_bytes": Told("velum_guest_swap_in_bytes", "Memory read from swap."),
    "guest_swap_out_bytes": Told("velum_guest_swap_out_bytes", "Memory written to swap."),
    "guest_major_faults": Told("velum_guest_major_faults", "Page faults that took a disk."),
    "guest_minor_faults": Told("velum_guest_minor_faults", "Page faults that took none."),
    "guest_hugetlb_allocations": Told("velum_guest_hugetlb_allocations", "Huge pages given."),
    "guest_hugetlb_failures": Told("velum_guest_hugetlb_failures", "Huge pages not to be had."),
    "guest_oom_kills": Told("velum_guest_oom_kills", "Processes killed for want of memory."),
    "guest_allocation_stalls": Told("velum_guest_allocation_stalls", "Waits for memory."),
    "guest_scanned_async_pages": Told(
        "velum_guest_scanned_async_pages", "Pages that kswapd looked at."
    ),
    "guest_scanned_direct_pages": Told(
        "velum_guest_scanned_direct_pages", "Pages that who needed some looked at."
    ),
    "guest_reclaimed_async_pages": Told(
        "velum_guest_reclaimed_async_pages", "Pages that kswapd freed."
    ),
    "guest_reclaimed_direct_pages": Told(
        "velum_guest_reclaimed_direct_pages", "Pages that who needed some freed."
    ),
}
"""By counter; labels are the VM and the device."""

DERIVED: Final = frozenset({"read_latency_avg", "write_latency_avg"})
"""Not told: since the boot they say little, and the sums say it of any span."""

QUEUE: Final[dict[str, Told]] = {
    "notifications": Told("velum_queue_notifications", "Doorbells that the guest rang."),
    "interrupts": Told("velum_queue_interrupts", "Interrupts that the guest was sent."),
    "requests": Told("velum_queue_requests", "Requests that the device took."),
}
"""By the end of ``queueN_...``; labels are the VM, the device and the queue."""

VCPU_EXITS: Final = Told("velum_vcpu_exits", "Exits of the guest to this host's user space.")
"""Of ``exits_...``; labels are the VM, the vCPU and the kind."""

VCPU_SECONDS: Final = Told("velum_vcpu_cpu_seconds", "CPU time of the vCPU.", scale=_US)
"""Of ``cpu_us``; labels are the VM and the vCPU."""

VCPU_UNCLAIMED: Final = Told("velum_vcpu_unclaimed", "Accesses that no device claimed.")
"""Of ``unclaimed_...``; labels are the VM, the vCPU and the address space."""

BOOT: Final = Told(
    "velum_vm_boot_seconds", "From the request to a stage of the last boot.", gauge=True, scale=_US
)
"""Of ``__boot``; labels are the VM and the stage."""
