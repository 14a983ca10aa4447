# SPDX-License-Identifier: Apache-2.0
"""Configurations from files and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipc_protocol.options_devices import parse_disk
from ipc_protocol.options_vm import make_config, parse_cpus
from velumctl.documents import Format, from_options, parse, read
from velumctl.failures import ExitCode, Failure, Refusal
from velumctl.source import Span

JSON = '{"$schema": "x", "cpus": {"boot_vcpus": 2, "max_vcpus": 2}, "disks": [{"path": "/d"}]}'
YAML = "cpus: {boot_vcpus: 2, max_vcpus: 2}\ndisks:\n- path: /d\n"
TOML = '"$schema" = "x"\ncpus = {boot_vcpus = 2, max_vcpus = 2}\n[[disks]]\npath = "/d"\n'
DOCUMENT = {"cpus": {"boot_vcpus": 2, "max_vcpus": 2}, "disks": [{"path": "/d"}]}


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", JSON), ("a.yaml", YAML), ("a.YML", YAML), ("a.toml", TOML)]
)
def test_the_suffix_says_what_it_is(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    document = read(str(path))
    assert document.value == DOCUMENT
    assert document.source.name == str(path)
    span = document.source.find("/disks/0/path")
    assert span is not None
    assert text.split("\n")[span.line][span.column :].startswith(('"path"', "path"))


def test_an_option_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(YAML)
    assert read(str(path), Format.YAML).value == DOCUMENT
    with pytest.raises(Failure, match="give --format json, yaml or toml") as caught:
        read(str(path))
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("form", "text", "reason", "span"),
    [
        (Format.JSON, "{", "Expecting property name enclosed in double quotes", Span(0, 1, 1)),
        (Format.JSON, '{"a":\n nul}', "Expecting value", Span(1, 1, 1)),
        (Format.JSON, '{"a": 1,\n "a": 2}', "/a is given twice", Span(1, 1, 6)),
        (Format.YAML, "a: [1", "while parsing a flow sequence, expected ',' or ']'", Span(0, 5, 1)),
        (Format.YAML, "a: 1\na: 2", "/a is given twice", Span(1, 0, 4)),
        (Format.YAML, "a: \x01", "special characters are not allowed", Span(0, 0, 1)),
        (Format.TOML, "a = 1 2", "Expected newline or end of document", Span(0, 6, 1)),
        (Format.TOML, "a = [\n1\n", "Unclosed array", Span(2, 0, 1)),
    ],
)
def test_what_is_no_document(form: Format, text: str, reason: str, span: Span) -> None:
    with pytest.raises(Refusal, match=f"a.x is not the {form.upper()} document") as caught:
        parse("a.x", text, form)
    assert caught.value.exit_code is ExitCode.INVALID
    (error,) = caught.value.problem.errors
    assert reason in error.message
    source = caught.value.source
    assert source is not None
    assert source.find(error.pointer) == span


@pytest.mark.parametrize(
    ("form", "text"), [(Format.JSON, "[" * 100_000), (Format.YAML, "a: &a [*a]\n")]
)
def test_what_has_no_end(form: Format, text: str) -> None:
    with pytest.raises(Failure, match="nested too deeply"):
        parse("a.x", text, form)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be read: No such file"):
        read(str(tmp_path / "none.json"))
    (tmp_path / "bytes.json").write_bytes(b"\xff")
    with pytest.raises(Failure, match="is not text in UTF-8"):
        read(str(tmp_path / "bytes.json"))


@pytest.mark.parametrize(
    ("value", "document"),
    [
        (parse_disk("path=/d,num_queues=2,queue_size=128"), {"path": "/d", "num_queues": 2}),
        (
            make_config(
                {"kernel": "/k", "cpus": parse_cpus("boot=2"), "disks": [parse_disk("path=/d")]}
            ),
            {"payload": {"kernel": "/k"}, **DOCUMENT},
        ),
        ({"tag": "t", "num_queues": 1}, {"tag": "t", "num_queues": 1}),
    ],
)
def test_options_make_what_is_not_the_default(value: Any, document: Any) -> None:
    made = from_options(value)
    assert made.value == document
    assert made.source.find("/" + next(iter(document))) is not None
