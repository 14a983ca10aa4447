# SPDX-License-Identifier: Apache-2.0
"""velumctl's page: each command runs as it stands there, and what it says is so."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest

from ipc_protocol.schema import config_schema
from tests.support.api import ApiProcess
from tests.support.documents import blocks, run
from tests.support.guests import build
from tests.support.processes import start_worker
from velumctl.documents import Format, read
from velumctl.failures import ExitCode

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "velumctl.md"
KERNEL = "/boot/vmlinuz"


def write_configurations(folder: Path) -> list[Path]:
    """Write the page's configurations to the files that it names."""
    paths = []
    for form in Format:
        (text,) = blocks(PAGE, form)
        path = folder / f"web.{form}"
        path.write_text(text.replace(KERNEL, str(build("echo"))))
        paths.append(path)
    return paths


@pytest.mark.kvm
def test_the_commands_run_as_they_stand(tmp_path: Path) -> None:
    write_configurations(tmp_path)
    commands = [each.replace(KERNEL, str(build("echo"))) for each in blocks(PAGE, "sh")]
    with (
        start_worker(tmp_path, name="web-1"),
        start_worker(tmp_path, name="db-1"),
        ApiProcess(tmp_path, "--default-vm", "web-1") as api,
    ):
        variables = {"VELUM_API_SOCKET": str(api.socket), "RUN": str(tmp_path)}
        output = run(commands, variables, tmp_path / "errors", folder=tmp_path)
    assert "web-1" in output
    assert "uname -a" in output
    (shown,) = blocks(PAGE, "text")
    assert shown in (tmp_path / "errors").read_text()


def test_the_configurations_are_one(tmp_path: Path) -> None:
    paths = write_configurations(tmp_path)
    first, *others = [read(str(path)).value for path in paths]
    assert others == [first, first]
    # As an editor sees them, with the line that tells it of the schema.
    schema = config_schema()
    for document in (
        first,
        json.loads((tmp_path / "web.json").read_text()),
        tomllib.loads((tmp_path / "web.toml").read_text()),
    ):
        jsonschema.validate(document, schema)


def test_each_exit_code_is_there() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [(str(each.value), each.name) for each in ExitCode]
