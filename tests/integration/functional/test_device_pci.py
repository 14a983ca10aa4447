# SPDX-License-Identifier: Apache-2.0
"""PCI configuration space, by mechanism 1 and by ECAM, and the host bridge."""

import errno

import pytest

import kvm_shim
from kvm_shim import Space
from tests.support.ports import Ports, forged

pytestmark = pytest.mark.kvm

ECAM = 0xE800_0000
ENABLE = 0x8000_0000
IDENTITY = 0x0D57_8086
COMMAND = 0x04
COMMAND_WRITABLE = 0x0547
INTERRUPT_LINE = 0x3C
ONES = 0xFFFF_FFFF


@pytest.fixture
def device(vm):
    return vm.pci(ECAM)


@pytest.fixture
def ports(vm, device):  # noqa: ARG001 - its registers
    return Ports(vm, 0xCF8)


@pytest.fixture
def ecam(vm, device):  # noqa: ARG001 - its registers
    return Ports(vm, ECAM, Space.MMIO)


def select(ports, *, bus=0, device=0, function=0, register=0):
    ports.write(0, ENABLE | bus << 16 | device << 11 | function << 8 | register, 4)


def test_mechanism_1_is_found_as_linux_looks_for_it(ports):
    ports.write(3, 1)
    ports.write(0, ENABLE, 4)
    assert ports.read(0, 4) == ENABLE
    assert ports.read(4, 4) == IDENTITY


def test_address_register_takes_whole_dwords_only(ports):
    ports.write(0, ENABLE | 0x1234, 4)
    ports.write(1, 0x06)  # where a PC has its reset register
    ports.write(2, 0xAAAA, 2)
    ports.write(0, 0x55, 2)
    assert ports.read(0, 4) == ENABLE | 0x1234
    assert ports.read(0) == 0xFF
    assert ports.read(2, 2) == 0xFFFF


def test_reserved_bits_of_the_address_read_zero(ports):
    ports.write(0, ONES, 4)
    assert ports.read(0, 4) == 0x80FF_FFFC


def test_enable_bit_is_honoured(ports):
    ports.write(0, 0, 4)
    assert ports.read(4, 4) == ONES
    ports.write(4, ONES, 4)
    select(ports, register=COMMAND)
    assert ports.read(4, 4) == 0


def test_host_bridge_header(ports):
    header = []
    for register in range(0, 0x40, 4):
        select(ports, register=register)
        header.append(ports.read(4, 4))
    assert header == [IDENTITY, 0, 0x0600_0000, *[0] * 13]


def test_byte_lanes(ports):
    select(ports)
    assert [ports.read(4 + lane) for lane in range(4)] == [0x86, 0x80, 0x57, 0x0D]
    assert ports.read(6, 2) == 0x0D57
    assert ports.read(5, 2) == 0x5780
    select(ports, register=0x0B & 0xFC)
    assert ports.read(7) == 0x06


@pytest.mark.parametrize(
    "place",
    [{"device": 1}, {"function": 1}, {"device": 31, "function": 7}, {"bus": 1}, {"bus": 255}],
)
def test_absent_functions_read_all_ones(ports, place):
    select(ports, **place)
    ports.write(4, 0, 4)
    assert ports.read(4, 4) == ONES
    assert ports.read(4) == 0xFF


def test_write_masks(ports):
    for register in range(0, 0x100, 4):
        select(ports, register=register)
        before = ports.read(4, 4)
        ports.write(4, ONES, 4)
        writable = {0x04: COMMAND_WRITABLE, 0x0C: 0xFF, 0x3C: 0xFF}.get(register, 0)
        assert ports.read(4, 4) == before | writable
        ports.write(4, 0, 4)
        assert ports.read(4, 4) == before & ~writable


def test_narrow_writes_touch_their_bytes_alone(ports):
    select(ports, register=COMMAND)
    ports.write(5, 0xFF)
    assert ports.read(4, 2) == COMMAND_WRITABLE & 0xFF00
    ports.write(4, 0x02)
    assert ports.read(4, 2) == COMMAND_WRITABLE & 0xFF00 | 2


def test_unaligned_accesses_end_at_the_dword(ports):
    select(ports, register=0x38)
    ports.write(6, 0xFFFF_FFFF, 4)  # 0xcfe-0xd01: half of it is beyond the ports
    select(ports, register=INTERRUPT_LINE)
    assert ports.read(4, 4) == 0
    select(ports)
    assert ports.read(6, 4) == 0xFFFF_0000 | IDENTITY >> 16
    assert ports.read(2, 4) == (IDENTITY & 0xFFFF) << 16 | 0xFFFF
    assert ports.read(0, 8) == IDENTITY << 32 | ENABLE


def test_eight_bytes_select_and_access(ports):
    ports.write(0, ONES << 32 | ENABLE | COMMAND, 8)
    assert ports.read(4, 4) == COMMAND_WRITABLE


def test_ecam_sees_the_same_registers(ports, ecam):
    assert ecam.read(0, 4) == IDENTITY
    assert ecam.read(0, 8) == IDENTITY
    ecam.write(INTERRUPT_LINE, 0x5A)
    select(ports, register=INTERRUPT_LINE)
    assert ports.read(4) == 0x5A


def test_ecam_has_no_other_function(ecam):
    for function in (1, 8, 128, 255):
        ecam.write(function << 12, 0, 8)
        assert ecam.read(function << 12, 8) == (1 << 64) - 1


def test_ecam_beyond_the_conventional_registers(ecam):
    assert ecam.read(0x100, 4) == ONES
    ecam.write(0x100, 0, 4)
    assert ecam.read(0x100, 4) == ONES
    assert ecam.read(0xFE, 4) == 0xFFFF_0000


def test_ecam_accesses_may_cross_everything(ecam):
    assert ecam.read(0x0E, 8) == 0
    assert ecam.read(0xFFC, 8) == (1 << 64) - 1
    ecam.write(COMMAND - 2, ONES, 4)
    assert ecam.read(0, 8) == COMMAND_WRITABLE << 32 | IDENTITY


def test_state_moves_to_another_vm(device, ports):
    select(ports, register=INTERRUPT_LINE)
    ports.write(4, 0x77)
    with kvm_shim.Vm() as other:
        other.pci(ECAM).load(device.save())
        assert Ports(other, 0xCF8).read(0, 8) == 0x77 << 32 | ENABLE | INTERRUPT_LINE


@pytest.mark.parametrize(
    ("offset", "data"),
    [
        (0, b"\1"),  # reserved bits of CONFIG_ADDRESS
        (3, b"\x81"),
        (4, b"\0"),  # the vendor
        (4 + COMMAND, b"\x08"),  # a read-only command bit
        (4 + 0x0E, b"\x80"),  # multifunction
        (4 + 0xFF, b"\1"),
    ],
)
def test_forged_state_is_refused(device, ports, offset, data):
    select(ports, register=COMMAND)
    ports.write(4, 2, 2)
    state = device.save()
    with pytest.raises(kvm_shim.ShimError) as caught:
        device.load(forged(state, offset, data))
    assert caught.value.errno == errno.EINVAL
    assert device.save() == state


def test_ecam_must_be_aligned(vm):
    with pytest.raises(kvm_shim.ShimError, match="aligned"):
        vm.pci(ECAM + 0x1000)
