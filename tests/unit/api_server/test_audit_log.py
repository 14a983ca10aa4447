# SPDX-License-Identifier: Apache-2.0
import json
import os
import socket

import pytest

from api_server.audit_log import AuditFile, AuditJournal, AuditStream, open_audit
from api_server.log_lines import LogFormat
from ipc_protocol.errors import ApiFailure, ErrorCode

_FIELDS = {"user": "root", "operation": "vm.boot", "code": None, "note": "a\nb"}
_LINE = 'user=root operation=vm.boot note="a\\nb"'


def test_lines_of_a_file_are_appended_and_only_we_and_the_group_may_read_them(tmp_path):
    path = tmp_path / "audit.log"
    path.write_text("before\n")
    audit = AuditFile(path, LogFormat.LOGFMT)
    audit.write(_FIELDS)
    audit.write(_FIELDS)
    audit.close()
    assert path.read_text() == f"before\n{_LINE}\n{_LINE}\n"
    audit = AuditFile(tmp_path / "new.log", LogFormat.JSON)
    audit.write(_FIELDS)
    audit.close()
    assert json.loads((tmp_path / "new.log").read_text()) == {
        "user": "root",
        "operation": "vm.boot",
        "note": "a\nb",
    }
    assert (tmp_path / "new.log").stat().st_mode & 0o027 == 0


@pytest.mark.parametrize("rotate", [os.unlink, lambda path: path.rename(f"{path}.1")])
def test_a_file_that_is_rotated_away_is_made_anew(tmp_path, rotate):
    path = tmp_path / "audit.log"
    audit = AuditFile(path, LogFormat.LOGFMT)
    audit.write({"n": 1})
    rotate(path)
    audit.write({"n": 2})
    audit.close()
    assert path.read_text() == "n=2\n"


def test_an_entry_of_the_journal_has_a_field_for_each_value(tmp_path):
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        journal.settimeout(20)
        audit = AuditJournal(path)
        audit.write(_FIELDS)
        audit.close()
        entry = journal.recv(65536).decode().splitlines()
    assert entry == [
        f"MESSAGE={_LINE}",
        "PRIORITY=5",
        "SYSLOG_IDENTIFIER=velum-audit",
        "VELUM_USER=root",
        "VELUM_OPERATION=vm.boot",
        "VELUM_NOTE=a b",
    ]


def test_standard_error_has_them_beside_the_log(capsys):
    AuditStream(LogFormat.LOGFMT).write(_FIELDS)
    assert capsys.readouterr().err == f"{_LINE} logger=audit\n"


def test_a_journal_that_is_away_is_an_error_of_the_system(tmp_path):
    audit = AuditJournal(str(tmp_path / "nobody"))
    with pytest.raises(OSError, match="No such file"):
        audit.write(_FIELDS)
    audit.close()


def test_what_the_command_line_may_name(tmp_path):
    assert isinstance(open_audit("stderr", LogFormat.JSON), AuditStream)
    audit = open_audit(str(tmp_path / "audit.log"), LogFormat.JSON)
    assert isinstance(audit, AuditFile)
    audit.close()
    with pytest.raises(ApiFailure) as refused:
        open_audit(str(tmp_path / "missing" / "audit.log"), LogFormat.JSON)
    assert refused.value.error.code is ErrorCode.FILE_UNAVAILABLE
    assert "missing/audit.log" in str(refused.value)
