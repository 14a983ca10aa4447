# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from ipc_protocol.config_devices import SerialMode
from ipc_protocol.errors import ErrorCode, VmFailure
from vmm_worker.vm_file import read_vm_file


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "vm.json"
    path.write_text(text)
    return path


def test_an_empty_file_describes_no_vm(tmp_path: Path) -> None:
    for text in ("", "\n"):
        assert read_vm_file(written(tmp_path, text)) is None


def test_an_editor_s_schema_is_no_part_of_the_vm(tmp_path: Path) -> None:
    text = '{"$schema": "vm-file.schema.json", "payload": {"kernel": "/k"}}'
    file = read_vm_file(written(tmp_path, text))
    assert file is not None
    assert file.payload.kernel == "/k"


@pytest.mark.parametrize(
    ("members", "mode"),
    [
        ('"host": {"console": "journal"}', SerialMode.TTY),
        ('"host": {"console": "journal"}, "serial": {"mode": "Null"}', SerialMode.NULL),
        ('"host": {"console": null}', SerialMode.NULL),
        ('"host": {}', SerialMode.NULL),
    ],
)
def test_the_serial_port_is_kept_if_asked(tmp_path: Path, members: str, mode: SerialMode) -> None:
    file = read_vm_file(written(tmp_path, f'{{"payload": {{"kernel": "/k"}}, {members}}}'))
    assert file is not None
    assert file.config.serial.mode is mode


@pytest.mark.parametrize("text", ["{", "[]", "5", '{"payload": {}}', '{"host": 5}'])
def test_what_is_no_description_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(VmFailure) as caught:
        read_vm_file(written(tmp_path, text))
    assert caught.value.error.code is ErrorCode.INVALID_CONFIG


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(VmFailure, match="nothing") as caught:
        read_vm_file(tmp_path / "nothing")
    assert caught.value.error.code is ErrorCode.HOST_RESOURCE
