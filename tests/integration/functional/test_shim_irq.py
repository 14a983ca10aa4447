# SPDX-License-Identifier: Apache-2.0
"""The limits of interrupt routes, irqfds and doorbells; guests use them in other tests."""

import contextlib
import errno
import os
from pathlib import Path

import pytest

from kvm_shim import ShimError, Space, Vm

pytestmark = pytest.mark.kvm

MSI = 0xFEE00000


@pytest.fixture
def vm():
    with Vm() as vm:
        yield vm


@pytest.fixture
def event():
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    with contextlib.closing(os.fdopen(fd, "rb")):
        yield fd


def fails(code, call, *arguments, **keywords):
    with pytest.raises(ShimError) as caught:
        call(*arguments, **keywords)
    assert caught.value.errno == code, caught.value


def test_only_gsis_above_the_pins_have_routes(vm):
    for gsi in (0, 23, 4096, 0xFFFFFFFF):
        fails(errno.EINVAL, vm.route_msi, gsi, MSI, 0x50)
        fails(errno.EINVAL, vm.unroute, gsi)
    for gsi in (4095, 24, 100, 99):
        vm.route_msi(gsi, MSI, 0x50)
        vm.route_msi(gsi, MSI, 0x51)
    for gsi in (24, 99, 100, 4095):
        vm.unroute(gsi)
        fails(errno.ENOENT, vm.unroute, gsi)


def test_only_pins_have_a_level(vm):
    for gsi in (0, 4, 23):
        vm.set_irq_line(gsi, True)
        vm.set_irq_line(gsi, False)
    fails(errno.EINVAL, vm.set_irq_line, 24, True)


def test_an_irqfd_comes_and_goes(vm, event):
    vm.route_msi(24, MSI, 0x50)
    vm.add_irqfd(event, 24)
    fails(errno.EBUSY, vm.add_irqfd, event, 24)
    vm.remove_irqfd(event, 24)
    vm.add_irqfd(event, 24)
    fails(errno.EBADF, vm.add_irqfd, -1, 24)
    with Path("/dev/null").open("rb") as null:
        fails(errno.EINVAL, vm.add_irqfd, null.fileno(), 24)
    fails(errno.EINVAL, vm.add_irqfd, event, 1 << 20)


@pytest.mark.parametrize(("space", "address"), [(Space.PIO, 0xC000), (Space.MMIO, 0xD0000000)])
def test_a_doorbell_comes_and_goes(vm, event, space, address):
    for size in (0, 1, 2, 4) if space == Space.PIO else (0, 1, 2, 4, 8):
        vm.add_ioeventfd(space, address, size, event)
        fails(errno.EEXIST, vm.add_ioeventfd, space, address, size, event)
        vm.remove_ioeventfd(space, address, size, event)
        fails(errno.ENOENT, vm.remove_ioeventfd, space, address, size, event)
    vm.add_ioeventfd(space, address, 2, event, match=3)
    fails(errno.ENOENT, vm.remove_ioeventfd, space, address, 2, event)
    fails(errno.ENOENT, vm.remove_ioeventfd, space, address, 2, event, match=4)
    vm.add_ioeventfd(space, address, 2, event, match=4)
    vm.remove_ioeventfd(space, address, 2, event, match=3)
    fails(errno.EINVAL, vm.add_ioeventfd, space, address, 3, event)


def test_the_bus_takes_accesses_of_a_power_of_two(vm):
    for space in Space:
        for size in (1, 2, 4, 8):
            assert vm.bus_read(space, 0x1234, size) == (1 << 8 * size) - 1
            assert not vm.bus_write(space, 0x1234, 0, size)
        for size in (0, 3, 16):
            fails(errno.EINVAL, vm.bus_read, space, 0x1234, size)


def test_an_access_over_the_edge_of_a_device_is_split(vm):
    """The register at the edge answers, the bytes beside it are nobody's."""
    vm.acpi_pm(0x600, 0x608)
    low = vm.bus_read(Space.PIO, 0x5FF, 2)
    assert low & 0xFF == 0xFF
    assert low >> 8 == vm.bus_read(Space.PIO, 0x600, 1)
    assert vm.bus_read(Space.PIO, 0x60B, 4) >> 8 == 0xFFFFFF
    assert vm.bus_read(Space.MMIO, 0xFFFFFFFFFFFFFFFE, 4) == 0xFFFFFFFF


def test_devices_cannot_share_a_port(vm):
    vm.debug_port(0x80)
    fails(errno.EEXIST, vm.debug_port, 0x80)
