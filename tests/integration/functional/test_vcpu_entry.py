# SPDX-License-Identifier: Apache-2.0
"""The two ways into a guest, and what the boot vCPU finds there."""

import errno
import struct

import pytest

from kvm_shim import Boot, ShimError
from tests.support.machines import GuestVm

pytestmark = pytest.mark.kvm

ENTRY = 0x100000
ARGUMENT = 0x7000
STACK = 0x8FF0
FOUND = 0x200000
BOOT = Boot(entry=ENTRY, argument=ARGUMENT, stack=STACK, gdt=0x500, page_tables=0x9000)

STORE_64 = (
    b"\x48\x89\x34\x25" + struct.pack("<I", FOUND),  # mov %rsi, FOUND
    b"\x48\x89\x24\x25" + struct.pack("<I", FOUND + 8),  # mov %rsp, FOUND + 8
    b"\xb8" + struct.pack("<I", 0xE8000000),  # mov $ECAM, %eax: high in the first 4 GiB
    b"\x8b\x00",  # mov (%rax), %eax
    b"\x89\x04\x25" + struct.pack("<I", FOUND + 16),  # mov %eax, FOUND + 16
)
STORE_32 = (
    b"\x89\x1d" + struct.pack("<I", FOUND),  # mov %ebx, FOUND
    b"\x89\x25" + struct.pack("<I", FOUND + 8),  # mov %esp, FOUND + 8
    b"\xa1" + struct.pack("<I", 0xE8000000),  # mov ECAM, %eax
    b"\xa3" + struct.pack("<I", FOUND + 16),  # mov %eax, FOUND + 16
)
POWER_OFF = b"\x66\xba\x00\x06\xb0\x34\xee\xf4"  # mov $0x600, %dx; mov $0x34, %al; out; hlt


@pytest.mark.parametrize(("method", "code"), [("enter_linux64", STORE_64), ("enter_pvh", STORE_32)])
def test_the_guest_finds_its_argument_its_stack_and_the_first_4_gib(method, code):
    with GuestVm(None) as guest:
        guest.vm.write_memory(ENTRY, b"".join(code) + POWER_OFF)
        getattr(guest.vm, method)(0, BOOT)
        guest.run()
        guest.expect_power_off()
        argument, stack, bridge = struct.unpack("<QQI", guest.vm.read_memory(FOUND, 20))
        assert (argument, stack) == (ARGUMENT, STACK)
        assert bridge == 0x0D578086


def test_registers_of_the_64_bit_entry():
    """Documentation/arch/x86/boot.rst: __BOOT_CS is 0x10, __BOOT_DS is 0x18."""
    with GuestVm(None) as guest:
        guest.vm.enter_linux64(0, BOOT)
        registers = guest.vm.registers(0)
        assert (registers.rip, registers.rsi, registers.rsp) == (ENTRY, ARGUMENT, STACK)
        assert (registers.cs, registers.ss) == (0x10, 0x18)
        assert registers.rflags == 2
        assert registers.cr0 & 0x80000001 == 0x80000001
        assert registers.cr4 & 0x20
        assert registers.efer & 0x500 == 0x500


def test_registers_of_the_pvh_entry():
    with GuestVm(None) as guest:
        guest.vm.enter_pvh(0, BOOT)
        registers = guest.vm.registers(0)
        assert (registers.rip, registers.rbx) == (ENTRY, ARGUMENT)
        assert registers.rflags == 2
        assert registers.cr0 & 0x80000001 == 1
        assert registers.cr4 == 0
        assert registers.efer == 0


@pytest.mark.parametrize("method", ["enter_linux64", "enter_pvh"])
def test_boot_structures_outside_of_ram_are_refused(method):
    with GuestVm(None) as guest:
        before = guest.vm.registers(0)
        with pytest.raises(ShimError) as caught:
            getattr(guest.vm, method)(0, BOOT._replace(gdt=0xC0000000, page_tables=0xC0000000))
        assert caught.value.errno == errno.EFAULT
        assert guest.vm.registers(0) == before
