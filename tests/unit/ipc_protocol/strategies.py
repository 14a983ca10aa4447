# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for everything that travels between the processes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from ipc_protocol.config import (
    CoreScheduling,
    CpuAffinity,
    CpusConfig,
    CpuTopology,
    MemoryConfig,
    PayloadConfig,
    VmConfig,
)
from ipc_protocol.config_devices import SerialConfig, SerialMode
from tests.unit.ipc_protocol.strategies_devices import PATH, devices

WRITABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
INTEGER = st.integers(-(1 << 63), (1 << 64) - 1)

PLAIN = st.recursive(
    st.none() | st.booleans() | INTEGER | st.floats(allow_nan=False) | TEXT | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
"""What msgpack can carry, never nested too deep."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@st.composite
def cpus(draw: st.DrawFn) -> CpusConfig:
    """Draw vCPUs whose topology, if they have one, multiplies up."""
    shape = [draw(st.integers(1, most)) for most in (2, 7, 3, 3)]
    threads, cores, dies, packages = shape
    topology = draw(st.none() | st.just(CpuTopology(threads, cores, dies, packages)))
    most = threads * cores * dies * packages if topology else draw(st.integers(1, 254))
    return CpusConfig(
        boot_vcpus=draw(st.integers(1, most)),
        max_vcpus=most,
        topology=topology,
        max_phys_bits=draw(st.integers(38, 52)),
        affinity=draw(st.just(()) | st.just((CpuAffinity(most - 1, (0, 2)),))),
        nested=draw(st.booleans()),
        core_scheduling=draw(st.sampled_from(CoreScheduling)),
    )


MEMORY = st.builds(
    MemoryConfig,
    size=st.integers(1, 1 << 16).map(lambda pages: pages << 21),
    shared=st.booleans(),
    hugepages=st.booleans(),
    hugepage_size=st.none(),
    prefault=st.booleans(),
    thp=st.booleans(),
)

SERIAL = st.one_of(
    st.builds(
        SerialConfig,
        mode=st.sampled_from([SerialMode.OFF, SerialMode.PTY, SerialMode.TTY, SerialMode.NULL]),
    ),
    st.builds(SerialConfig, mode=st.just(SerialMode.FILE), file=PATH),
    st.builds(SerialConfig, mode=st.just(SerialMode.SOCKET), socket=st.text("abc/", min_size=1)),
)

PAYLOAD = st.builds(
    PayloadConfig,
    kernel=PATH,
    cmdline=st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    initramfs=st.none() | PATH,
)


@st.composite
def config(draw: st.DrawFn) -> VmConfig:
    """Draw a configuration whose parts fit each other."""
    vcpus, memory = draw(cpus()), draw(MEMORY)
    return VmConfig(
        payload=draw(PAYLOAD),
        cpus=vcpus,
        memory=memory,
        serial=draw(SERIAL),
        **draw(devices(vcpus=vcpus.boot_vcpus, memory=memory.size)),
    )


CONFIG = config()
"""Every configuration that is valid."""


def values_of(target: Any) -> st.SearchStrategy[Any]:
    """Draw values of a type that a signature names."""
    return CONFIG if target is VmConfig else _values(inspect.type_info(target))


_SCALARS: dict[type[inspect.Type], st.SearchStrategy[Any]] = {
    inspect.NoneType: st.none(),
    inspect.BoolType: st.booleans(),
}


def _values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.StructType(cls) if cls is VmConfig:
            drawn = CONFIG
        case inspect.StructType(cls, fields):
            drawn = st.builds(cls, **{each.name: _values(each.type) for each in fields})
        case inspect.EnumType(cls):
            drawn = st.sampled_from(cls)
        case inspect.IntType(ge=lowest, le=highest, multiple_of=unit):
            drawn = _integers(lowest, highest, unit or 1)
        case inspect.FloatType(ge=lowest, le=highest):
            drawn = st.floats(lowest, highest, allow_nan=False)
        case inspect.StrType():
            drawn = _strings(kind)
        case inspect.UnionType(types):
            drawn = st.one_of([_values(each) for each in types])
        case inspect.VarTupleType(item, least, most):
            size = {"min_size": least or 0, "max_size": most or 4}
            drawn = st.lists(_values(item), **size).map(tuple)
        case inspect.DictType(key, value):
            drawn = st.dictionaries(_values(key), _values(value), max_size=4)
        case _:
            drawn = _SCALARS[type(kind)]
    return drawn


def _strings(kind: inspect.StrType) -> st.SearchStrategy[str]:
    if kind.pattern is not None:
        return st.from_regex(kind.pattern)
    if kind.max_length is None:
        return st.text(WRITABLE, max_size=40)
    return st.text("abc", min_size=kind.min_length or 0, max_size=kind.max_length)


def _integers(lowest: int | None, highest: int | None, unit: int) -> st.SearchStrategy[int]:
    least = -(1 << 63) if lowest is None else lowest
    most = (1 << 63) - 1 if highest is None else highest
    return st.integers(-(-least // unit), most // unit).map(lambda count: count * unit)
