# SPDX-License-Identifier: Apache-2.0
"""The manual pages: all of what the programs say of themselves, in a form that man(1) reads."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path

import click
import pytest

import api_server.main
from api_server.routes import ROUTES
from ipc_protocol.schema import NOT_SUPPORTED, file_schema
from scripts.package.manual import PAGES, render
from scripts.package.manual.roff import bold, escape
from velumctl.cli import cli
from vmm_worker import command_line

PARSERS = {
    "velum-api.8": api_server.main.make_parser,
    "velum-vmm.8": command_line.make_parser,
}
OTHERS = {"systemd.resource-control(5)"}
"""Pages of others that ours refer to."""


@pytest.mark.parametrize("name", PAGES)
def test_groff_has_nothing_to_warn_of(name: str) -> None:
    groff = ["groff", "-man", "-ww", "-z", "-Tutf8", "-Kutf8"]
    done = subprocess.run(groff, input=render(name), capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("name", PARSERS)
def test_every_option_of_a_program_is_on_its_page(name: str) -> None:
    text = render(name)
    actions = PARSERS[name]()._actions
    assert len(actions) > 10
    for action in actions:
        for option in action.option_strings:
            assert bold(option) in text, option


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_every_command_of_velumctl_is_on_its_page(name: str) -> None:
    text = render("velumctl.1")
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert re.search(rf"^\.TP\n{re.escape(bold(name))}", text, re.MULTILINE)
    for each in command.params:
        if isinstance(each, click.Option):
            assert all(bold(option) in text for option in each.opts), each.name


def test_every_field_of_a_configuration_is_on_its_page() -> None:
    text = render("velum-vm.json.5")
    schema = file_schema()
    for name, each in {"The whole": schema, **schema["$defs"]}.items():
        assert f".SS {name}\n" in text
        for field, inner in each.get("properties", {}).items():
            if NOT_SUPPORTED not in inner and "properties" not in inner:
                assert bold(field) in text, (name, field)


def test_every_operation_is_under_its_role() -> None:
    text = render("velum-access.toml.5")
    for path in ROUTES:
        assert bold(path.rpartition("/")[2]) in text


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_refer_to_pages_that_there_are(name: str) -> None:
    known = {f"{page.rpartition('.')[0]}({page[-1]})" for page in PAGES} | OTHERS
    references = re.findall(r"^\.BR (\S+) (\(\d\))", render(name), re.MULTILINE)
    assert references
    assert {f"{page}{section}".replace("\\", "") for page, section in references} <= known


def test_the_package_has_the_pages_and_each_command_has_one(root: Path) -> None:
    packed = {path.name: path for path in (root / "usr/share/man").rglob("*.gz")}
    assert packed.keys() == {f"{name}.gz" for name in PAGES}
    for name, path in packed.items():
        assert path.parent.name == f"man{name[-4]}"
        assert gzip.decompress(path.read_bytes()).decode() == render(name.removesuffix(".gz"))
    pages = {name.rpartition(".")[0] for name in PAGES}
    assert {path.name for path in (root / "usr/bin").iterdir()} <= pages


def test_text_stands_for_itself() -> None:
    assert escape(r".a\b -x ^y") == r"\&.a\eb \-x \(hay"
