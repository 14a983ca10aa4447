# SPDX-License-Identifier: Apache-2.0
"""Where the host runs the vCPUs' threads, and beside whom."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipc_protocol.config import CoreScheduling, CpuAffinity, CpusConfig
from ipc_protocol.errors import ErrorCode, VmFailure
from kvm_shim import CoreScope, ShimError
from tests.support.machines import GuestVm
from vmm_worker.machine.schedule import schedule_vcpus

pytestmark = pytest.mark.kvm

ROOT = Path(__file__).parents[3]
NOWHERE = 65535

# Stands for a host that has core scheduling: tells which thread asked for what.
RECORDER = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
    if (option == 62) {
        printf("%d %lu %lu %lu %lu\n", gettid(), a, b, c, d);
        fflush(stdout);
    }
    errno = atoi(getenv("PRCTL_ERRNO"));
    return errno ? -1 : 0;
}
"""
SCRIPT = """
import sys
from kvm_shim import CoreScope, ShimError
from tests.integration.functional.test_vcpu_schedule import threads
from tests.support.machines import GuestVm
with GuestVm("smp", vcpus=3) as guest:
    guest.run()
    print(*threads(3), flush=True)
    try:
        guest.vm.schedule_cores(CoreScope[sys.argv[1]])
    except ShimError as ex:
        print(ex.errno)
"""
CREATE, SHARE_TO, THREAD = 1, 2, 0


def threads(count):
    """Return the kernel's numbers of the vCPUs' threads."""
    names = {}
    for task in Path("/proc/self/task").iterdir():
        names[(task / "comm").read_text().strip()] = int(task.name)
    return [names[f"vcpu{index}"] for index in range(count)]


@pytest.fixture
def guest():
    with GuestVm("count", vcpus=2) as guest:
        yield guest.run()


def test_each_vcpu_runs_where_it_may(guest):
    cpus = sorted(os.sched_getaffinity(0))
    first, second = threads(2)
    guest.vm.set_affinity(0, [cpus[-1]])
    guest.vm.set_affinity(1, cpus)
    assert os.sched_getaffinity(first) == {cpus[-1]}
    assert os.sched_getaffinity(second) == set(cpus)
    guest.wait_for_counts_above(guest.counts())


@pytest.mark.parametrize("cpus", [[], [NOWHERE], [0, NOWHERE], [1 << 31]])
def test_a_cpu_that_is_not_there_is_refused(guest, cpus):
    with pytest.raises(ShimError) as caught:
        guest.vm.set_affinity(0, cpus)
    assert caught.value.errno == errno.ENODEV


def test_threads_that_are_not_there_go_nowhere():
    with GuestVm("count") as guest:
        for call in (
            lambda: guest.vm.set_affinity(0, [0]),
            lambda: guest.vm.set_affinity(1, [0]),
            lambda: guest.vm.schedule_cores(CoreScope.VM),
        ):
            with pytest.raises(ShimError) as caught:
                call()
            assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("mode", CoreScheduling)
def test_a_vm_runs_as_it_is_configured_wherever_it_is(guest, mode):
    cpu = min(os.sched_getaffinity(0))
    # vCPU 2 is one that is not there yet.
    affinity = (CpuAffinity(1, (cpu,)), CpuAffinity(2, (NOWHERE,)))
    cpus = CpusConfig(boot_vcpus=2, max_vcpus=3, affinity=affinity, core_scheduling=mode)
    schedule_vcpus(guest.vm, cpus)
    assert os.sched_getaffinity(threads(2)[1]) == {cpu}
    guest.wait_for_counts_above(guest.counts())


def test_a_place_that_is_not_there_is_told_with_its_field(guest):
    affinity = (CpuAffinity(0, (0,)), CpuAffinity(1, (NOWHERE,)))
    with pytest.raises(VmFailure) as caught:
        schedule_vcpus(guest.vm, CpusConfig(boot_vcpus=2, max_vcpus=2, affinity=affinity))
    error = caught.value.error
    assert error.code is ErrorCode.HOST_RESOURCE
    assert [each.pointer for each in error.fields] == ["/cpus/affinity/1/host_cpus"]
    assert "AllowedCPUs" in error.message


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Return what a VM of three vCPUs asks the host for, by the threads that ask."""
    folder = tmp_path_factory.mktemp("recorder")
    library = folder / "recorder.so"
    command = ["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-x", "c", "-o", library, "-"]
    subprocess.run(command, input=RECORDER, text=True, check=True, timeout=60)

    def ask(scope, code=0):
        preload = f"{os.environ.get('LD_PRELOAD', '')} {library}".strip()
        output = subprocess.run(
            [sys.executable, "-c", SCRIPT, scope],
            env=os.environ | {"LD_PRELOAD": preload, "PRCTL_ERRNO": str(code)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        vcpus, *calls = ([int(word) for word in line.split()] for line in output.splitlines())
        return vcpus, calls

    return ask


def test_the_vcpus_of_a_vm_share_one_cookie_that_nobody_else_has(ask):
    vcpus, calls = ask("VM")
    (maker, *created), *shared = calls
    assert maker not in vcpus
    assert created == [CREATE, 0, THREAD, 0]
    assert shared == [[maker, SHARE_TO, vcpu, THREAD, 0] for vcpu in vcpus]


def test_each_vcpu_has_a_cookie_of_its_own(ask):
    vcpus, calls = ask("VCPU")
    assert [call[1:] for call in calls] == [[CREATE, vcpu, THREAD, 0] for vcpu in vcpus]


@pytest.mark.parametrize("scope", ["VM", "VCPU"])
@pytest.mark.parametrize(
    ("code", "told"), [(errno.EINVAL, errno.EOPNOTSUPP), (errno.ENODEV, errno.ENODEV)]
)
def test_a_host_that_cannot_is_told_apart(ask, scope, code, told):
    _, calls = ask(scope, code)
    assert calls[-1] == [told]
    assert len(calls) == 2
