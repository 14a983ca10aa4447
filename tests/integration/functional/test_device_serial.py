# SPDX-License-Identifier: Apache-2.0
"""The registers of the 16550A, and its saved state."""

import errno

import pytest

import kvm_shim
from tests.support.ports import Ports, forged, payload_of

pytestmark = pytest.mark.kvm

DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
FCR = IIR
RDI, THRI, RLSI, MSI = 1, 2, 4, 8
NONE, MODEM, EMPTY, RECEIVED, LINE, TIMEOUT = 1, 0, 2, 4, 6, 0x0C
FIFOS = 0xC0
FCR_ENABLE, FCR_CLEAR_RX, FCR_CLEAR_TX = 1, 2, 4
DLAB, BREAK = 0x80, 0x40
LOOP, OUT2, OUT1, RTS, DTR = 0x10, 8, 4, 2, 1
DR, OE, BI, THRE, TEMT, FIFO_ERROR = 1, 2, 0x10, 0x20, 0x40, 0x80
IDLE = THRE | TEMT


@pytest.fixture
def serial(vm):
    return vm.serial(0x3F8, 4)


@pytest.fixture
def ports(vm, serial):  # noqa: ARG001 - its registers
    return Ports(vm, 0x3F8)


@pytest.fixture
def looped(ports):
    """Return the port in loopback, with FIFOs and the highest trigger level."""
    ports.write(MCR, LOOP)
    ports.read(MSR)
    ports.write(FCR, FCR_ENABLE | 0xC0)
    return ports


def receive(ports, data):
    for byte in data:
        ports.write(DATA, byte)


def test_reset_values(ports):
    assert [ports.read(register) for register in range(8)] == [
        0,
        0,
        NONE,
        0,
        OUT2,
        IDLE,
        0xB0,
        0,
    ]


def test_unimplemented_bits_read_zero(ports):
    for register, bits in ((IER, 0x0F), (MCR, 0x1F), (LCR, 0xFF), (SCR, 0xFF)):
        ports.write(register, 0xFF)
        assert ports.read(register) == bits
        ports.write(register, 0)


def test_status_registers_are_read_only(ports):
    ports.write(LSR, 0)
    ports.write(MSR, 0)
    assert ports.read(LSR) == IDLE
    assert ports.read(MSR) == 0xB0


def test_divisor_latch(ports):
    ports.write(LCR, DLAB | 3)
    ports.write(DATA, 0x0C)
    ports.write(IER, 0x01)
    assert (ports.read(DATA), ports.read(IER)) == (0x0C, 0x01)
    ports.write(LCR, 3)
    assert (ports.read(DATA), ports.read(IER)) == (0, 0)
    ports.write(LCR, DLAB)
    assert (ports.read(DATA), ports.read(IER)) == (0x0C, 0x01)


def test_fifos_identify_a_16550a(ports):
    ports.write(FCR, FCR_ENABLE)
    assert ports.read(IIR) == FIFOS | NONE
    ports.write(FCR, 0)
    assert ports.read(IIR) == NONE


def test_wide_accesses_are_byte_cycles(ports):
    ports.write(MCR, 0x5A00_000F, 4)
    assert ports.read(MCR, 4) == 0x5AB0_600F
    assert ports.read(0, 8) == 0x5AB0_600F_0001_0000
    for size in (1, 2, 4, 8):
        for offset in range(8):
            ports.write(offset, 0, size)
            assert 0 <= ports.read(offset, size) < 1 << 8 * size


def test_empty_transmitter_interrupts_when_it_is_enabled(ports):
    ports.write(IER, THRI)
    assert ports.read(IIR) == EMPTY
    assert ports.read(IIR) == NONE


def test_empty_transmitter_interrupts_after_each_byte(ports):
    ports.write(IER, THRI)
    ports.read(IIR)
    ports.write(DATA, 0x41)
    assert ports.read(LSR) == IDLE
    assert ports.read(IIR) == EMPTY
    assert ports.read(IIR) == NONE


def test_enabling_again_asks_again(ports):
    ports.write(IER, THRI)
    ports.read(IIR)
    ports.write(IER, THRI | RDI)
    assert ports.read(IIR) == NONE
    ports.write(IER, 0)
    ports.write(IER, THRI)
    assert ports.read(IIR) == EMPTY


def test_reading_another_cause_keeps_the_transmitters(looped):
    looped.write(DATA, 1)
    looped.write(IER, RDI | THRI)
    assert looped.read(IIR) == FIFOS | TIMEOUT
    looped.read(DATA)
    assert looped.read(IIR) == FIFOS | EMPTY
    assert looped.read(IIR) == FIFOS | NONE


def test_loopback_returns_the_data(looped):
    receive(looped, b"velum")
    assert looped.read(LSR) == IDLE | DR
    assert bytes(looped.read(DATA) for _ in range(5)) == b"velum"
    assert looped.read(LSR) == IDLE
    assert looped.read(DATA) == 0


def test_loopback_sends_nothing_out(serial, looped):
    receive(looped, b"velum")
    assert payload_of(serial.save())[43:47] == bytes(4)  # bytes to send


@pytest.mark.parametrize(("code", "level"), [(0x00, 1), (0x40, 4), (0x80, 8), (0xC0, 14)])
def test_trigger_level(looped, code, level):
    looped.write(FCR, FCR_ENABLE | code)
    looped.write(IER, RDI)
    for count in range(1, 17):
        looped.write(DATA, count)
        assert looped.read(IIR) == FIFOS | (RECEIVED if count >= level else TIMEOUT)
    for count in range(15, -1, -1):
        looped.read(DATA)
        expected = RECEIVED if count >= level else TIMEOUT if count else NONE
        assert looped.read(IIR) == FIFOS | expected


def test_full_fifo_keeps_what_it_has(serial, looped):
    looped.write(IER, RLSI)
    receive(looped, range(0x40, 0x50))
    assert looped.read(IIR) == FIFOS | NONE
    receive(looped, b"!?")
    assert looped.read(IIR) == FIFOS | LINE
    assert looped.read(LSR) == IDLE | DR | OE
    assert looped.read(LSR) == IDLE | DR
    assert looped.read(IIR) == FIFOS | NONE
    assert [looped.read(DATA) for _ in range(16)] == list(range(0x40, 0x50))
    assert serial.counters()["overruns"] == 2


def test_single_register_keeps_the_last_byte(looped):
    looped.write(FCR, 0)
    looped.write(IER, RDI)
    receive(looped, b"ab")
    assert looped.read(LSR) == IDLE | DR | OE
    assert looped.read(IIR) == RECEIVED
    assert looped.read(DATA) == ord("b")
    assert looped.read(LSR) == IDLE


def test_clearing_the_receiver(looped):
    receive(looped, b"gone")
    looped.write(FCR, FCR_CLEAR_RX)  # without the enable bit: turns the FIFOs off
    assert looped.read(LSR) == IDLE
    looped.write(FCR, FCR_ENABLE)
    receive(looped, b"kept")
    looped.write(FCR, FCR_ENABLE | FCR_CLEAR_TX)
    assert looped.read(LSR) == IDLE | DR
    looped.write(FCR, FCR_ENABLE | FCR_CLEAR_RX)
    assert looped.read(LSR) == IDLE
    receive(looped, b"gone")
    looped.write(FCR, 0)
    assert looped.read(LSR) == IDLE


def test_break_comes_with_its_byte(looped):
    looped.write(IER, RLSI)
    looped.write(DATA, ord("a"))
    looped.write(LCR, BREAK)
    looped.write(LCR, 0)
    looped.write(DATA, ord("b"))
    assert looped.read(LSR) == IDLE | DR | FIFO_ERROR
    assert looped.read(DATA) == ord("a")
    assert looped.read(IIR) == FIFOS | LINE
    assert looped.read(LSR) == IDLE | DR | BI | FIFO_ERROR
    assert looped.read(LSR) == IDLE | DR
    assert looped.read(IIR) == FIFOS | NONE
    assert (looped.read(DATA), looped.read(DATA)) == (0, ord("b"))


def test_modem_lines_in_loopback(looped):
    for control, status in ((RTS, 0x10), (DTR, 0x20), (OUT1, 0x40), (OUT2, 0x80)):
        looped.write(MCR, LOOP | control)
        assert looped.read(MSR) & 0xF0 == status
    looped.write(MCR, OUT2)
    assert looped.read(MSR) & 0xF0 == 0xB0


def test_modem_deltas(looped):
    looped.write(IER, MSI)
    looped.write(MCR, LOOP | RTS)
    assert looped.read(IIR) == FIFOS | MODEM
    assert looped.read(MSR) == 0x11
    assert looped.read(IIR) == FIFOS | NONE
    assert looped.read(MSR) == 0x10
    looped.write(MCR, LOOP | RTS | OUT1)
    assert looped.read(MSR) == 0x50  # the ring's beginning is no delta
    looped.write(MCR, LOOP | DTR | OUT2)
    assert looped.read(MSR) == 0xA0 | 0x0F


def test_interrupt_priorities(looped):
    looped.write(IER, RDI | THRI | RLSI | MSI)
    receive(looped, range(17))
    looped.write(MCR, LOOP | RTS)
    assert looped.read(IIR) == FIFOS | LINE
    looped.read(LSR)
    assert looped.read(IIR) == FIFOS | RECEIVED
    for _ in range(3):
        looped.read(DATA)
    assert looped.read(IIR) == FIFOS | TIMEOUT
    for _ in range(13):
        looped.read(DATA)
    assert looped.read(IIR) == FIFOS | EMPTY
    assert looped.read(IIR) == FIFOS | MODEM
    looped.read(MSR)
    assert looped.read(IIR) == FIFOS | NONE


def test_masked_causes_do_not_interrupt(looped):
    receive(looped, range(17))
    looped.write(MCR, LOOP | RTS)
    assert looped.read(IIR) == FIFOS | NONE


def test_state_moves_to_another_vm(serial, looped):
    looped.write(LCR, DLAB | 3)
    looped.write(DATA, 0x12)
    looped.write(IER, 0x34)
    looped.write(LCR, 3)
    looped.write(SCR, 0x56)
    looped.write(IER, RDI | THRI | RLSI | MSI)
    receive(looped, b"0123")
    looped.read(DATA)
    looped.write(LCR, BREAK)
    receive(looped, range(14))
    looped.write(MCR, LOOP | RTS)
    state = serial.save()
    with kvm_shim.Vm() as other:
        other.serial(0x3F8, 4).load(state)
        restored = Ports(other, 0x3F8)
        assert restored.read(SCR) == 0x56
        assert restored.read(IER) == RDI | THRI | RLSI | MSI
        assert restored.read(IIR) == FIFOS | LINE
        assert restored.read(LSR) == IDLE | DR | OE | FIFO_ERROR
        assert restored.read(IIR) == FIFOS | RECEIVED
        assert restored.read(MSR) == 0x11
        assert bytes(restored.read(DATA) for _ in range(3)) == b"123"
        assert restored.read(LSR) == IDLE | DR | BI | FIFO_ERROR
        assert [restored.read(DATA) for _ in range(13)] == [0, *range(12)]
        assert restored.read(LSR) == IDLE
        assert restored.read(IIR) == FIFOS | EMPTY
        restored.write(LCR, DLAB)
        assert (restored.read(DATA), restored.read(IER)) == (0x12, 0x34)


@pytest.mark.parametrize(
    ("offset", "data"),
    [
        (0, b"\x10"),  # IER
        (1, b"\x02"),  # FCR: a bit that is not kept
        (1, b"\x40"),  # FCR: a trigger level without FIFOs
        (3, b"\x20"),  # MCR
        (7, b"\x10"),  # modem deltas
        (8, b"\x02"),  # overrun
        (9, b"\xff"),  # THRE latch
        (10, b"\x11"),  # more than the FIFO holds
        (1, b"\0"),  # a FIFO's worth without FIFOs
        (12, b"\x20"),  # status of a received byte
        (43, (65537).to_bytes(4, "little")),  # more than the ring holds
        (43, b"\xff\xff\xff\xff"),
    ],
)
def test_forged_state_is_refused(serial, looped, offset, data):
    receive(looped, range(16))
    looped.read(MSR)
    state = serial.save()
    with pytest.raises(kvm_shim.ShimError, match="serial state") as caught:
        serial.load(forged(state, offset, data))
    assert caught.value.errno == errno.EINVAL
    assert serial.save() == state


def test_state_of_another_kind_or_length_is_refused(vm, serial):
    state = serial.save()
    for other in (b"", state[:-1], state + b"\0", vm.i8042().save()):
        with pytest.raises(kvm_shim.ShimError) as caught:
            serial.load(other)
        assert caught.value.errno == errno.EINVAL
    assert serial.save() == state


def test_interrupt_must_be_a_pin(vm):
    with pytest.raises(kvm_shim.ShimError, match="interrupt 24"):
        vm.serial(0x3F8, 24)


def test_failure_leaves_nothing_behind(vm):
    vm.debug_port(0x3FF)
    with pytest.raises(kvm_shim.ShimError, match="taken"):
        vm.serial(0x3F8, 4)
