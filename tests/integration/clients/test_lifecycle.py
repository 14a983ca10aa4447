# SPDX-License-Identifier: Apache-2.0
"""Clients written for Cloud Hypervisor, unmodified, take a VM through its whole life."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.api import ApiProcess
from tests.support.guests import build
from tests.support.processes import make_file, start_worker

SOURCES = Path(__file__).parent
BUILD = SOURCES.parents[2] / "build/clients"
DOCUMENT = SOURCES.parents[2] / "services/api_server/specification/openapi-3.0.json"
GENERATOR = "openapi-generator-cli"
GENERATOR_VERSION = "7.16.0"
MIB = 1 << 20

STEPS = (
    "info before create: 404",
    "boot before create: 404",
    "create",
    "create twice: 409",
    "removal of an unknown device: 404",
    "resize",
    "boot",
    "boot twice: 409",
    "pause twice: 409",
    "pause and resume",
    "reboot",
    "shutdown twice: 409",
    "shutdown and boot",
    "info after delete: 404",
    "shutdown of the VMM",
)


def _whole_config(kernel: Path, disk: str) -> dict[str, object]:
    """Return a configuration with the defaults of the specification spelled out."""
    device = {"iommu": False, "pci_segment": 0}
    return {
        "cpus": {
            "boot_vcpus": 1,
            "max_vcpus": 1,
            "kvm_hyperv": False,
            "max_phys_bits": 46,
            "nested": True,
            "features": {"amx": False},
            "core_scheduling": "Vm",
        },
        "memory": {
            "size": 16 * MIB,
            "hotplug_size": 0,
            "mergeable": False,
            "hotplug_method": "Acpi",
            "shared": False,
            "hugepages": False,
            "prefault": False,
            "thp": True,
        },
        "payload": {"kernel": str(kernel), "cmdline": "console=ttyS0"},
        "disks": [
            {
                "path": disk,
                "readonly": False,
                "direct": False,
                "num_queues": 1,
                "queue_size": 128,
                "vhost_user": False,
                "id": "root",
                "backing_files": False,
                "sparse": True,
                "image_type": "Raw",
                "lock_granularity": "ByteRange",
                **device,
            }
        ],
        "rng": {"src": "/dev/urandom", "iommu": False},
        "serial": {"mode": "Null", "iommu": False},
        "console": {"mode": "Off", "iommu": False},
        "debug_console": {"mode": "Off", "iobase": 0xE9},
        "iommu": False,
        "watchdog": False,
        "pvpanic": False,
        "platform": {
            "num_pci_segments": 1,
            "iommu_address_width_bits": 64,
            "iommufd": False,
            "vfio_p2p_dma": True,
        },
        "landlock_enable": False,
    }


def _drive(program: Path, folder: Path) -> list[str]:
    """Run a client with a server and a worker of its own; return the steps it took."""
    config = folder / "config.json"
    disk = make_file(folder / "disk.raw", MIB)
    config.write_text(json.dumps(_whole_config(build("count"), disk)))
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(start_worker(folder))
        # Such clients have one socket for each VM, and what they call its host is their own.
        api = stack.enter_context(ApiProcess(folder, "--vm", "default"))
        result = subprocess.run(
            [program, api.socket, config], capture_output=True, check=False, text=True, timeout=300
        )
        assert result.returncode == 0, result.stdout + result.stderr + api.read_log()
        assert worker.wait() == 0
    return result.stdout.splitlines()


def _assert_whole(steps: list[str]) -> None:
    assert steps[0].startswith("ping ")
    assert set(STEPS) <= set(steps)
    assert any(step.startswith("counters of ") for step in steps)


@pytest.mark.kvm
@pytest.mark.timeout(1200)
def test_the_rust_crate(tmp_path: Path) -> None:
    target = BUILD / "rust"
    command = ["cargo", "build", "--quiet", f"--manifest-path={SOURCES / 'rust/Cargo.toml'}"]
    # What the crate depends on is resolved where it is built; the crate itself is pinned.
    subprocess.run(command, env=os.environ | {"CARGO_TARGET_DIR": str(target)}, check=True)
    _assert_whole(_drive(target / "debug/lifecycle", tmp_path))


@pytest.mark.kvm
@pytest.mark.timeout(1200)
def test_a_go_client_made_by_the_generator_that_others_use(tmp_path: Path) -> None:
    target = BUILD / "go"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(SOURCES / "go", target)
    artifact = f"org.openapitools:{GENERATOR}:{GENERATOR_VERSION}"
    fetch = ["mvn", "-q", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={BUILD}"]
    subprocess.run(fetch, check=True)
    generate = [
        *("java", "-jar", BUILD / f"{GENERATOR}-{GENERATOR_VERSION}.jar", "generate", "-g", "go"),
        *("-i", DOCUMENT, "-o", target / "api", "--package-name=velum"),
        *("--git-host=velum.invalid", "--git-user-id=client", "--git-repo-id=api"),
        # Two enumerations may have a name in common, which Go's constants may not.
        "--additional-properties=enumClassPrefix=true",
        # One class for everything, as the document of Cloud Hypervisor brings it about.
        "--openapi-normalizer=SET_TAGS_FOR_ALL_OPERATIONS=default",
    ]
    subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["go", "build", "-o", "lifecycle", "."], check=True, cwd=target)
    _assert_whole(_drive(target / "lifecycle", tmp_path))
