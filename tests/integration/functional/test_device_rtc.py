# SPDX-License-Identifier: Apache-2.0
"""The CMOS clock and its memory."""

import datetime as dt
import errno

import pytest

import kvm_shim
from tests.support.ports import Ports, forged

pytestmark = pytest.mark.kvm

GIB = 1 << 30
SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY = 0, 2, 4, 6, 7, 8, 9, 0x32
A, B, C, D = 0x0A, 0x0B, 0x0C, 0x0D
SET, BINARY, HOURS_24 = 0x80, 0x04, 0x02
STATE_OFFSET, STATE_HELD, STATE_CMOS = 1, 9, 16


class Clock:
    """The clock as a driver uses it."""

    def __init__(self, vm):
        self.ports = Ports(vm, 0x70)

    def read(self, register):
        self.ports.write(0, register)
        return self.ports.read(1)

    def write(self, register, value):
        self.ports.write(0, register)
        self.ports.write(1, value)

    def time(self):
        """Read the time in binary, again if it changed meanwhile."""
        self.write(B, BINARY | HOURS_24)
        while True:
            second = self.read(SECONDS)
            moment = dt.datetime(
                self.read(CENTURY) * 100 + self.read(YEAR),
                self.read(MONTH),
                self.read(DAY),
                self.read(HOURS),
                self.read(MINUTES),
                second,
                tzinfo=dt.UTC,
            )
            weekday = self.read(WEEKDAY)
            if self.read(SECONDS) == second:
                assert weekday == moment.isoweekday() % 7 + 1
                return moment

    def set(self, moment):
        self.write(B, SET | BINARY | HOURS_24)
        self.write(CENTURY, moment.year // 100)
        self.write(YEAR, moment.year % 100)
        self.write(MONTH, moment.month)
        self.write(DAY, moment.day)
        self.write(HOURS, moment.hour)
        self.write(MINUTES, moment.minute)
        self.write(SECONDS, moment.second)
        self.write(B, BINARY | HOURS_24)


@pytest.fixture
def device(vm):
    return vm.rtc(3 * GIB, 3 * GIB)


@pytest.fixture
def clock(vm, device):  # noqa: ARG001 - its registers
    return Clock(vm)


def now():
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def test_time_is_the_hosts_utc(clock):
    before = now()
    assert before <= clock.time() <= now()


def test_resets_to_bcd_and_24_hours(clock):
    assert clock.read(A) == 0x26
    assert clock.read(B) == HOURS_24
    assert clock.read(C) == 0
    assert clock.read(D) == 0x80
    year = f"{now().year:04}"
    assert f"{clock.read(CENTURY):02x}{clock.read(YEAR):02x}" == year


@pytest.mark.parametrize(
    ("hour", "bcd24", "bcd12", "binary12"),
    [
        (0, 0x00, 0x12, 12),
        (1, 0x01, 0x01, 1),
        (11, 0x11, 0x11, 11),
        (12, 0x12, 0x92, 0x8C),
        (13, 0x13, 0x81, 0x81),
        (23, 0x23, 0x91, 0x8B),
    ],
)
def test_hour_in_every_mode(clock, hour, bcd24, bcd12, binary12):
    clock.set(dt.datetime(2031, 2, 3, 4, 5, 6, tzinfo=dt.UTC))
    for mode, value in (
        (HOURS_24, bcd24),
        (0, bcd12),
        (BINARY, binary12),
        (BINARY | HOURS_24, hour),
    ):
        clock.write(B, SET | mode)
        clock.write(HOURS, value)
        assert clock.read(HOURS) == value
        clock.write(B, SET | BINARY | HOURS_24)
        assert clock.read(HOURS) == hour
        clock.write(HOURS, 4)


def test_bcd_of_every_field(clock):
    clock.write(B, SET | HOURS_24)
    values = {SECONDS: 0x59, MINUTES: 0x48, HOURS: 0x19, DAY: 0x28, MONTH: 0x11, YEAR: 0x67}
    for register, value in values.items():
        clock.write(register, value)
    clock.write(CENTURY, 0x19)
    assert {register: clock.read(register) for register in values} == values
    assert clock.read(WEEKDAY) == 3  # 1967-11-28 was a Tuesday


def test_set_bit_stops_the_clock(clock):
    moment = dt.datetime(1999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    clock.write(B, SET | BINARY | HOURS_24)
    for register, value in ((CENTURY, 19), (YEAR, 99), (MONTH, 12), (DAY, 31)):
        clock.write(register, value)
    for register, value in ((HOURS, 23), (MINUTES, 59), (SECONDS, 59)):
        clock.write(register, value)
    start = dt.datetime.now(dt.UTC)
    while dt.datetime.now(dt.UTC) - start < dt.timedelta(seconds=1.1):
        assert clock.read(SECONDS) == 59
    started = now()
    assert moment <= clock.time() <= moment + (now() - started) + dt.timedelta(seconds=1)


def test_time_set_by_the_guest_goes_on(clock):
    moment = dt.datetime(2099, 2, 28, 23, 59, 58, tzinfo=dt.UTC)
    clock.set(moment)
    set_at = now()
    while clock.time() == moment:
        assert now() < set_at + dt.timedelta(seconds=5)
    assert moment < clock.time() <= moment + (now() - set_at) + dt.timedelta(seconds=2)


def test_single_field_may_be_set_on_the_run(clock):
    clock.write(B, BINARY | HOURS_24)
    clock.write(YEAR, 77)
    assert clock.time().year % 100 == 77


@pytest.mark.parametrize(
    ("register", "mode", "value"),
    [
        (SECONDS, BINARY, 60),
        (SECONDS, 0, 0x60),
        (SECONDS, 0, 0x0A),
        (MINUTES, BINARY, 255),
        (HOURS, BINARY | HOURS_24, 24),
        (HOURS, HOURS_24, 0x24),
        (HOURS, BINARY, 0),
        (HOURS, BINARY, 13),
        (HOURS, BINARY, 0x80),
        (DAY, BINARY, 0),
        (DAY, BINARY, 32),
        (MONTH, BINARY, 0),
        (MONTH, BINARY, 13),
        (YEAR, BINARY, 100),
        (YEAR, 0, 0xA0),
        (CENTURY, BINARY, 100),
        (WEEKDAY, BINARY, 1),
        (WEEKDAY, BINARY, 99),
    ],
)
def test_what_is_no_time_is_ignored(clock, register, mode, value):
    clock.write(B, SET | mode)
    before = clock.read(register)
    clock.write(register, value)
    assert clock.read(register) == before


def test_impossible_date_becomes_the_next_possible_one(clock):
    clock.set(dt.datetime(2030, 1, 31, 12, 0, 0, tzinfo=dt.UTC))
    clock.write(MONTH, 2)
    moment = clock.time()
    assert (moment.month, moment.day) == (3, 3)


def test_read_only_registers(clock):
    clock.write(A, 0xFF)
    assert clock.read(A) == 0x7F
    for register, value in ((C, 0), (D, 0x80)):
        clock.write(register, 0x55)
        assert clock.read(register) == value


def test_alarm_and_memory_keep_what_is_written(clock):
    registers = [1, 3, 5, 0x0F, 0x10, 0x33, 0x7F]
    for register in registers:
        clock.write(register, register ^ 0xA5)
    assert [clock.read(register) for register in registers] == [
        register ^ 0xA5 for register in registers
    ]


def test_nmi_mask_is_no_part_of_the_index(clock):
    clock.write(0x8F, 0x0A)
    assert clock.read(0x0F) == 0x0A
    assert clock.ports.read(0) == 0xFF


def test_wide_access_is_index_then_data(clock):
    clock.ports.write(0, 0x5A0F, 2)
    assert clock.ports.read(0, 2) == 0x5AFF


@pytest.mark.parametrize(
    ("below", "above", "above_16m", "above_4g"),
    [
        (0, 0, 0, 0),
        (16 << 20, 0, 0, 0),
        (512 << 20, 0, 496 * 16, 0),
        (3 * GIB, 3 * GIB, (3 * 1024 - 16) * 16, 3 * 1024 * 16),
        (1 << 40, 1 << 50, 0xFFFF, 0xFFFFFF),
    ],
)
def test_memory_size(vm, below, above, above_16m, above_4g):
    vm.rtc(below, above)
    clock = Clock(vm)
    for register in (0x34, 0x35, 0x5B, 0x5C, 0x5D):
        clock.write(register, 0x11)
    assert clock.read(0x34) | clock.read(0x35) << 8 == above_16m
    assert clock.read(0x5B) | clock.read(0x5C) << 8 | clock.read(0x5D) << 16 == above_4g


def test_state_moves_to_another_vm(device, clock):
    moment = dt.datetime(2050, 6, 7, 8, 9, 10, tzinfo=dt.UTC)
    clock.set(moment)
    clock.write(0x0F, 0x42)
    started = now()
    with kvm_shim.Vm() as other:
        other.rtc(3 * GIB, 3 * GIB).load(device.save())
        restored = Clock(other)
        assert restored.ports.read(1) == 0x42  # the index moved as well
        assert moment <= restored.time() <= moment + (now() - started) + dt.timedelta(seconds=2)


def test_state_moves_while_the_clock_is_being_set(device, clock):
    clock.write(B, SET | BINARY | HOURS_24)
    clock.write(YEAR, 12)
    clock.write(SECONDS, 34)
    with kvm_shim.Vm() as other:
        other.rtc(3 * GIB, 3 * GIB).load(device.save())
        restored = Clock(other)
        assert (restored.read(YEAR), restored.read(SECONDS)) == (12, 34)


@pytest.mark.parametrize(
    ("offset", "data"),
    [
        (0, b"\x80"),
        (STATE_OFFSET, (1 << 62).to_bytes(8, "little")),
        (STATE_OFFSET, (1 << 63).to_bytes(8, "little")),
        (STATE_HELD, b"\x3c"),
        (STATE_HELD + 2, b"\x18"),
        (STATE_HELD + 3, b"\0"),
        (STATE_HELD + 4, b"\x0d"),
        (STATE_HELD + 6, b"\x64"),
        (STATE_CMOS + SECONDS, b"\1"),
        (STATE_CMOS + A, b"\x80"),
        (STATE_CMOS + C, b"\x80"),
        (STATE_CMOS + 0x34, b"\1\1"),
        (STATE_CMOS + 0x5D, b"\1"),
    ],
)
def test_forged_state_is_refused(device, clock, offset, data):
    clock.write(0x0F, 0x42)
    state = device.save()
    with pytest.raises(kvm_shim.ShimError, match="rtc state") as caught:
        device.load(forged(state, offset, data))
    assert caught.value.errno == errno.EINVAL
    assert device.save() == state
