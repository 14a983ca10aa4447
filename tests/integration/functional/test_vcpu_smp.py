# SPDX-License-Identifier: Apache-2.0
"""More than one vCPU: INIT, startup IPI, and how many a machine can have."""

import errno

import pytest

from kvm_shim import ShimError
from tests.support.machines import GuestVm

pytestmark = pytest.mark.kvm


@pytest.mark.parametrize("vcpus", [1, 2, 4, 16])
def test_every_vcpu_starts(vcpus):
    with GuestVm("smp", vcpus=vcpus) as guest:
        guest.run()
        guest.expect_power_off()
        guest.console.expect(b"cpus %d\n" % vcpus)


def test_vcpus_run_at_the_same_time():
    with GuestVm("count", vcpus=4) as guest:
        guest.run()
        counts = guest.wait_for_counts_above([0] * 4)
        guest.wait_for_counts_above(counts)


def test_vcpus_that_were_not_started_can_be_paused():
    with GuestVm("hello", vcpus=4) as guest:
        guest.run()
        guest.console.expect(b"hello from the guest\n")
        for _ in range(20):
            guest.vm.pause()
            guest.vm.resume()


def test_254_vcpus():
    with GuestVm("smp", vcpus=254) as guest:
        guest.run()
        guest.expect_power_off()
        guest.console.expect(b"cpus 254\n")


def test_indices_are_in_order_and_apic_ids_are_unique():
    with GuestVm(None, vcpus=2) as guest:
        for index, apic_id in ((1, 5), (4, 4), (2, 1)):
            with pytest.raises(ShimError):
                guest.vm.create_vcpu(index, apic_id)
        guest.vm.create_vcpu(2, 2)
        with pytest.raises(ShimError) as caught:
            guest.vm.counters(3)
        assert caught.value.errno in (errno.EINVAL, errno.ENOENT)
