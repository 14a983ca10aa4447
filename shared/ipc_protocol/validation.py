# SPDX-License-Identifier: Apache-2.0
"""From any document to a typed request, or to all the reasons why it is none.

msgspec stops at the first error, an operator wants all of them: the walk here follows
msgspec's own description of the types, so a new field or range in ``config`` needs
nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec
from msgspec import inspect

from ipc_protocol import rules, rules_devices
from ipc_protocol.config import VmConfig
from ipc_protocol.config_devices import DiskConfig, NetConfig, PmemConfig, VsockConfig
from ipc_protocol.errors import ErrorCode, FieldError, VmFailure
from ipc_protocol.jobs import JobCancel
from ipc_protocol.messages import VmRemoveDevice, VmResize
from ipc_protocol.monitor import EventsQuery
from ipc_protocol.rules import Fields, Rule
from ipc_protocol.unsupported import UNSUPPORTED, Node, Unsupported

if TYPE_CHECKING:
    from ipc_protocol.config_host import VmFile

__all__ = [
    "MAX_ERRORS",
    "PARSERS",
    "Parser",
    "parse_config",
    "parse_device",
    "parse_file",
    "parse_request",
]

MAX_ERRORS: Final = 100
"""Fields named in one answer; of a document that is all errors, these are enough."""

_Vm = TypeVar("_Vm", bound=VmConfig)

_SHOWN: Final = 64
"""Characters of a client's own text that are repeated to it."""
_INT64: Final = range(-(1 << 63), 1 << 63)
"""What a number may be that has no range of its own: what clients in other languages have."""
_CONSTANTS: Final[dict[object, str]] = {None: "null", True: "true", False: "false"}


@cache
def _description(kind: type) -> inspect.Type:
    """Describe a type; when it is first asked for, as a worker need not before its first VM."""
    return inspect.type_info(kind)


class Parser(Protocol):
    """Makes a typed request of a decoded document."""

    def __call__(self, document: object, *, ignored: list[str] | None = None) -> object:
        """Return the request.

        Args:
            document: Plain values, as JSON or msgpack has them.
            ignored: Where unknown fields are to be left out instead of refused, the list
                that takes their pointers.

        Raises:
            VmFailure: With every field at fault.
        """


def parse_config(
    document: object, *, ignored: list[str] | None = None, newest: str = ""
) -> VmConfig:
    """Return the configuration in a decoded document.

    Args:
        document: Plain values.
        ignored: As of :class:`Parser`.
        newest: The pointer of a device that comes to a configuration which is valid without
            it; of two that get into each other's way, it is the one at fault.

    Raises:
        VmFailure: ``invalid_config``; ``duplicate_id`` or ``not_supported`` when the only
            fault is that ids are taken, or that it asks for what is not built; with every
            field at fault.
    """
    return _parse_vm(VmConfig, document, (), _Walk(ignored, newest))


def parse_file(document: object) -> VmFile:
    """Return the VM that a file of the host describes, as :func:`parse_config` does."""
    from ipc_protocol import config_host, rules_host  # noqa: PLC0415 - most workers have no file

    return _parse_vm(config_host.VmFile, document, rules_host.RULES, _Walk())


def _parse_vm(kind: type[_Vm], document: object, more: Iterable[Rule], walk: _Walk) -> _Vm:
    clean = walk.value(document, _description(kind), "", UNSUPPORTED)
    tables = (rules.RULES, rules_devices.RULES, more)
    invalid = [*walk.invalid, *(each for table in tables for each in walk.broken(table))]
    clashes = walk.broken(rules_devices.CLASHES)
    lacking = [*walk.lacking, *walk.broken(rules_devices.GAPS)]
    if invalid:
        what = "the configuration is not valid"
        raise _refusal(ErrorCode.INVALID_CONFIG, what, invalid, clashes, lacking)
    if clashes:
        raise _refusal(ErrorCode.DUPLICATE_ID, "an id is taken", clashes, lacking)
    if lacking:
        what = "the configuration asks for what is not there"
        raise _refusal(ErrorCode.NOT_SUPPORTED, what, lacking)
    return msgspec.convert(clean, kind, strict=True)


def parse_device(
    kind: type, field: str, document: object, *, ignored: list[str] | None = None
) -> object:
    """Return the configuration of one device, as far as it can be judged by itself.

    Args:
        kind: Its type.
        field: Where the configuration has devices of the kind.
        document: Plain values.
        ignored: As of :class:`Parser`.

    Raises:
        VmFailure: ``invalid_config`` or ``not_supported``, with every field at fault.
    """
    walk = _Walk(ignored)
    clean = walk.value(document, _description(kind), "", UNSUPPORTED[field])
    if walk.invalid:
        what = "the device's configuration is not valid"
        raise _refusal(ErrorCode.INVALID_CONFIG, what, walk.invalid, walk.lacking)
    if walk.lacking:
        what = "the device's configuration asks for what is not there"
        raise _refusal(ErrorCode.NOT_SUPPORTED, what, walk.lacking)
    return msgspec.convert(clean, kind, strict=True)


def parse_request(kind: type, document: object, *, ignored: list[str] | None = None) -> object:
    """Return any other request body.

    Raises:
        VmFailure: ``invalid_request``, with every field at fault.
    """
    walk = _Walk(ignored)
    clean = walk.value(document, _description(kind), "", {})
    if walk.invalid:
        raise _refusal(ErrorCode.INVALID_REQUEST, "the request is not valid", walk.invalid)
    return msgspec.convert(clean, kind, strict=True)


PARSERS: Final[Mapping[type, Parser]] = {
    VmConfig: parse_config,
    DiskConfig: partial(parse_device, DiskConfig, "disks"),
    NetConfig: partial(parse_device, NetConfig, "net"),
    PmemConfig: partial(parse_device, PmemConfig, "pmem"),
    VsockConfig: partial(parse_device, VsockConfig, "vsock"),
    VmResize: partial(parse_request, VmResize),
    VmRemoveDevice: partial(parse_request, VmRemoveDevice),
    JobCancel: partial(parse_request, JobCancel),
    EventsQuery: partial(parse_request, EventsQuery),
}
"""How each type of request body is made from plain values."""


def _refusal(code: ErrorCode, what: str, *lists: Iterable[FieldError]) -> VmFailure:
    fields = [each for errors in lists for each in errors]
    first = f"{fields[0].pointer or 'the document'} {fields[0].message}"
    rest = len(fields) - 1
    if rest >= MAX_ERRORS:
        fields[MAX_ERRORS:] = [FieldError("", f"has {len(fields) - MAX_ERRORS} more such fields")]
    more = f" (and {rest} more)" if rest else ""
    return VmFailure(code, f"{what}: {first}{more}", fields=tuple(fields))


class _Walk:
    """One pass over a document along the description of a type."""

    def __init__(self, ignored: list[str] | None = None, newest: str = "") -> None:
        self.invalid: list[FieldError] = []
        self.lacking: list[FieldError] = []
        self._ignored = ignored
        self._sound = Fields(newest)

    def broken(self, table: Iterable[Rule]) -> list[FieldError]:
        """Return what does not hold between the fields found sound."""
        return [error for rule in table for error in rule(self._sound)]

    def value(self, value: object, kind: inspect.Type, pointer: str, others: Node) -> object:
        """Check one value and return it without what asks for nothing."""
        if isinstance(kind, inspect.UnionType):
            if value is None and kind.includes_none:
                self._sound[pointer] = None
                return None
            (kind,) = (each for each in kind.types if not isinstance(each, inspect.NoneType))
        if isinstance(kind, inspect.StructType):
            return self._struct(
                value, kind, pointer, {} if isinstance(others, Unsupported) else others
            )
        if isinstance(kind, inspect.VarTupleType):
            return self._array(value, kind, pointer, others)
        if isinstance(kind, inspect.DictType):
            return self._mapping(value, kind, pointer)
        if reason := _CHECKS[type(kind)](value, kind):
            self.invalid.append(FieldError(pointer, f"{reason}, not {_show(value)}"))
        else:
            self._sound[pointer] = value
        return value

    def _struct(
        self, value: object, kind: inspect.StructType, pointer: str, others: Mapping[str, Node]
    ) -> object:
        if not isinstance(value, dict):
            self.invalid.append(FieldError(pointer, f"must be an object, not {_show(value)}"))
            return None
        self._sound[pointer] = value
        fields = {field.encode_name: field for field in kind.fields}
        for name in value:
            if name not in fields:
                self._other(value[name], name, pointer, others, known=(*fields, *others))
        clean = {}
        for name, field in fields.items():
            below = f"{pointer}/{name}"
            if name in value:
                clean[name] = self.value(value[name], field.type, below, others.get(name, {}))
            elif not field.required:
                self._default(msgspec.to_builtins(field.default), below)
            elif isinstance(field.type, inspect.StructType):
                # What is required in it is what to say, not that braces are missing.
                self._struct({}, field.type, below, {})
            else:
                self.invalid.append(FieldError(below, "is required"))
        return clean

    def _array(
        self, value: object, kind: inspect.VarTupleType, pointer: str, others: Node
    ) -> object:
        if value is None:
            value = []  # As in the specification, where such a field may be null.
        if not isinstance(value, list | tuple):
            self.invalid.append(FieldError(pointer, f"must be an array, not {_show(value)}"))
            return None
        if kind.max_length is not None and len(value) > kind.max_length:
            reason = f"must have at most {kind.max_length} elements, not {len(value)}"
            self.invalid.append(FieldError(pointer, reason))
            return None
        if len(value) < (kind.min_length or 0):
            self.invalid.append(FieldError(pointer, "must not be empty"))
            return None
        self._sound[pointer] = value
        return [
            self.value(each, kind.item_type, f"{pointer}/{index}", others)
            for index, each in enumerate(value)
        ]

    def _mapping(self, value: object, kind: inspect.DictType, pointer: str) -> object:
        if not isinstance(value, dict):
            self.invalid.append(FieldError(pointer, f"must be an object, not {_show(value)}"))
            return None
        if len(value) > (kind.max_length or len(value)):
            reason = f"must have at most {kind.max_length} members, not {len(value)}"
            self.invalid.append(FieldError(pointer, reason))
            return None
        self._sound[pointer] = value
        return {
            name: self.value(each, kind.value_type, f"{pointer}/{_escape(name)}", {})
            for name, each in value.items()
        }

    def _other(
        self,
        value: object,
        name: str,
        pointer: str,
        others: Mapping[str, Node],
        known: tuple[str, ...],
    ) -> None:
        """Judge a field that the type does not have."""
        below = f"{pointer}/{_escape(name)}"
        node = others.get(name)
        if node is None:
            self._unknown(name, below, known)
        elif isinstance(node, Unsupported):
            if node.asks(value):
                reason = f"is not supported yet: there is no {node.lacks}; leave it out"
                self.lacking.append(FieldError(below, reason))
        elif isinstance(value, dict):
            for each in value:
                self._other(value[each], each, below, node, known=tuple(node))
        elif value is not None:
            self.invalid.append(FieldError(below, f"must be an object, not {_show(value)}"))

    def _unknown(self, name: str, pointer: str, known: tuple[str, ...]) -> None:
        if self._ignored is None:
            reason = f"is not a known field{self._hint(name, known)}"
            self.invalid.append(FieldError(pointer, reason))
        else:
            self._ignored.append(pointer)

    def _default(self, value: object, pointer: str) -> None:
        self._sound[pointer] = value
        if isinstance(value, dict):
            for name, each in value.items():
                self._default(each, f"{pointer}/{name}")

    def _hint(self, name: str, known: tuple[str, ...]) -> str:
        if len(name) > _SHOWN or len(self.invalid) >= MAX_ERRORS:
            return ""
        import difflib  # noqa: PLC0415 - a worker whose clients make no mistakes never needs it

        near = difflib.get_close_matches(name, known, n=1)
        return f": did you mean {near[0]}?" if near else ""


def _integer(value: object, kind: Any) -> str:
    if kind.le is None and type(value) is int and value not in _INT64:
        return "must be a whole number of at most 63 bits"
    fits = (
        type(value) is int
        and (kind.ge is None or value >= kind.ge)
        and (kind.le is None or value <= kind.le)
        and (kind.multiple_of is None or value % kind.multiple_of == 0)
    )
    if fits:
        return ""
    reason = "must be a whole number"
    if kind.multiple_of is not None:
        reason += f", a multiple of {kind.multiple_of}"
    if kind.ge is not None:
        reason += f", from {kind.ge}" if kind.le is not None else f", at least {kind.ge}"
    if kind.le is not None:
        reason += f" to {kind.le}"
    return reason


def _boolean(value: object, kind: Any) -> str:  # noqa: ARG001 - one shape for all checks
    return "" if type(value) is bool else "must be true or false"


def _string(value: object, kind: Any) -> str:
    if not isinstance(value, str):
        return "must be a string"
    if len(value) < (kind.min_length or 0):
        return "must not be empty"
    if kind.max_length is not None and len(value) > kind.max_length:
        return f"must have at most {kind.max_length} characters"
    # Every string becomes an argument of a system call or of the guest's kernel.
    return "must have no NUL character" if "\0" in value else ""


def _choice(value: object, kind: Any) -> str:
    names = [each.value for each in kind.cls]
    return "" if type(value) is str and value in names else f"must be one of {', '.join(names)}"


_CHECKS: Final[dict[type, Callable[[object, Any], str]]] = {
    inspect.IntType: _integer,
    inspect.BoolType: _boolean,
    inspect.StrType: _string,
    inspect.EnumType: _choice,
}


def _show(value: object) -> str:
    """Say what a client gave, in JSON's terms and in few words."""
    if isinstance(value, str):
        return ascii(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!a}..."
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**_SHOWN else "a number beyond all bounds"
    if isinstance(value, dict | list | tuple):
        return "an object" if isinstance(value, dict) else "an array"
    return _CONSTANTS.get(value, "a value that JSON does not have")


def _escape(name: str) -> str:
    """Write a name as part of a JSON pointer (RFC 6901 section 3)."""
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    return shown.replace("~", "~0").replace("/", "~1")
