# SPDX-License-Identifier: Apache-2.0
"""Pause, resume and stop: nothing moves while paused, and no wake-up is lost."""

import errno
import threading

import pytest

from kvm_shim import ShimError
from tests.support.machines import GuestVm

pytestmark = pytest.mark.kvm


@pytest.mark.parametrize("vcpus", [1, 2])
def test_a_paused_guest_stands_still(vcpus):
    with GuestVm("count", vcpus=vcpus) as guest:
        guest.run()
        counts = guest.wait_for_counts_above([0] * vcpus)
        for _ in range(200 // vcpus):
            guest.vm.pause()
            counts = guest.counts()
            registers = [guest.vm.registers(index) for index in range(vcpus)]
            exits = [guest.vm.counters(index).exits for index in range(vcpus)]
            guest.console.read()
            assert guest.counts() == counts
            assert [guest.vm.registers(index) for index in range(vcpus)] == registers
            assert [guest.vm.counters(index).exits for index in range(vcpus)] == exits
            assert all(0x100000 <= regs.rip < 0x200000 for regs in registers)
            guest.vm.resume()
            counts = guest.wait_for_counts_above(counts)


@pytest.mark.parametrize("name", ["count", "hello", "echo", "doorbell"])
def test_a_pause_right_after_a_resume_is_not_lost(name):
    """The kick may come before, in or after KVM_RUN: the pause may not miss its vCPU."""
    with GuestVm(name, cmdline="rings=1000000") as guest:
        guest.vm.start()
        for _ in range(300):
            guest.vm.resume()
            guest.vm.pause()
            guest.console.read()


def test_a_pause_under_port_exits():
    """A vCPU that leaves KVM_RUN all the time is paused between two exits, not within one."""
    with GuestVm("doorbell", cmdline="rings=1000000") as guest:
        guest.run()
        for _ in range(200):
            (before,) = guest.wait_for_counts_above([guest.count()])
            guest.vm.pause()
            counters = guest.vm.counters(0)
            rounds = guest.count()
            assert rounds >= before
            # One round is one port access and one of memory, and then the count.
            assert 0 <= counters.unclaimed_io - rounds <= 1
            assert 0 <= counters.unclaimed_mmio - rounds <= 1
            guest.vm.resume()


def test_a_stop_right_after_a_resume_is_not_lost():
    for name in ("count", "hello", "doorbell"):
        for _ in range(10):
            with GuestVm(name, vcpus=2, cmdline="rings=1000000") as guest:
                guest.run()


def test_a_stop_before_and_between():
    with GuestVm("count"):
        pass
    with GuestVm("count") as guest:
        guest.vm.start()
    with GuestVm("count") as guest:
        guest.run()
        guest.vm.pause()


def test_wrong_order_is_refused():
    with GuestVm("count") as guest:
        guest.vm.start()
        with pytest.raises(ShimError) as caught:
            guest.vm.pause()
        assert caught.value.errno == errno.EALREADY
        guest.vm.resume()
        with pytest.raises(ShimError) as caught:
            guest.vm.resume()
        assert caught.value.errno == errno.EALREADY
        for call in (
            lambda: guest.vm.registers(0),
            lambda: guest.vm.save_vcpu(0),
            guest.vm.save,
            guest.vm.start,
        ):
            with pytest.raises(ShimError):
                call()
        guest.wait_for_counts_above([0])


def test_pause_from_another_thread():
    with GuestVm("count") as guest:
        guest.run()
        for _ in range(20):
            pauser = threading.Thread(target=guest.vm.pause)
            pauser.start()
            pauser.join(10)
            count = guest.count()
            assert guest.count() == count
            guest.vm.resume()
