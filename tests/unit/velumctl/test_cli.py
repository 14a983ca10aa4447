# SPDX-License-Identifier: Apache-2.0
"""The commands there are, their help, and what click makes of a command line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from api_server.routes import PREFIX, ROUTES
from tests.support.velumctl import Velumctl
from velumctl.cli import SECTIONS, cli

NAMES = [name for section in SECTIONS.values() for name in section]
ANOTHER_NAME = {
    "vmm.ping": "ping",
    "vmm.shutdown": "shutdown-vmm",
    "vmm.nmi": "nmi",
    "vmm.list": "list",
    "vmm.jobs": "jobs",
    "vmm.cancel": "cancel",
    "vmm.events": "events",
}
NOT_FOR_PEOPLE = {"openapi.json", "openapi-3.0.json"}


@pytest.fixture
def velumctl(tmp_path: Path) -> Velumctl:
    """Return velumctl where no server is."""
    return Velumctl(tmp_path / "none.sock")


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name: str, velumctl: Velumctl) -> None:
    outcome = velumctl(name, "--help")
    assert outcome.code == 0
    assert f"Usage: velumctl {name}" in outcome.out
    assert "--vm NAME" in outcome.out


def test_the_help_names_every_command(velumctl: Velumctl) -> None:
    text = velumctl("--help").out
    assert all(f"\n  {name} " in text for name in NAMES)
    assert len(set(NAMES)) == len(NAMES)


def test_every_operation_is_a_command() -> None:
    operations = {
        path.removeprefix(PREFIX) for path in ROUTES if path.startswith(PREFIX)
    } - NOT_FOR_PEOPLE
    commands = {ANOTHER_NAME.get(name, name.removeprefix("vm.")) for name in operations}
    assert commands <= set(NAMES)


def test_no_command_is_unknown() -> None:
    context = click.Context(cli)
    assert cli.get_command(context, "bot") is None
    assert all(isinstance(cli.get_command(context, name), click.Command) for name in NAMES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bot"], "No such command 'bot'"),
        (["boot", "--what"], "No such option"),
        (["create"], "give either --from FILE or options"),
        (["create", "--from", "a.json", "--kernel", "/k"], "give either --from FILE or options"),
        (["create", "--kernel", "/k", "--boot", "--dry-run"], "--dry-run creates nothing"),
        (["create", "--disk", "paht=/x"], "unknown key 'paht'"),
        (["create", "--cpus", "boot=x"], "expected a decimal number such as 4"),
        (["create", "--from", "a.ini"], "a.ini cannot be read"),
        (["add-disk", "readonly=on"], "'path' is missing"),
        (
            ["add-generic-vhost-user", "socket=/s,queue_sizes=1"],
            "expected numbers such as [64,128]",
        ),
        (["resize"], "give at least one of --cpus, --memory and --balloon"),
        (["resize", "--memory", "2T"], "expected a size such as 512M or 2G"),
        (["wait"], "Missing option '--state'"),
        (["wait", "--state", "happy"], "'happy' is not one of"),
        (["console", "--detach-key", "x"], "x is no control key"),
        (["logs"], "which VM? give --vm NAME"),
        (["logs", "--file", "/l", "--unit", "u"], "give one"),
        (["--timeout", "0", "ping"], "0.0 is not in the range"),
        (["completion", "csh"], "'csh' is not one of"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str, velumctl: Velumctl) -> None:
    outcome = velumctl(*arguments)
    assert outcome.code == (3 if "cannot be read" in message else 2)
    assert message in outcome.err


@pytest.mark.parametrize("arguments", [["boot", "--vm", "web-1"], ["--vm", "web-1", "boot"]])
def test_where_no_server_is(arguments: list[str], velumctl: Velumctl) -> None:
    outcome = velumctl(*arguments)
    assert outcome.code == 7
    assert "none.sock cannot be reached: No such file or directory" in outcome.err
    assert "is velum-api running?" in outcome.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, velumctl: Velumctl) -> None:
    outcome = velumctl("completion", shell)
    assert outcome.code == 0
    assert "_VELUMCTL_COMPLETE" in outcome.out


def test_schema(velumctl: Velumctl) -> None:
    outcome = velumctl("schema")
    assert outcome.code == 0
    assert '"boot_vcpus"' in outcome.out


def test_version(velumctl: Velumctl) -> None:
    assert velumctl("--version").out.startswith("velumctl v")
