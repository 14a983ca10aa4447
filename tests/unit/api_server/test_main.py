# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from api_server.main import parse_arguments


def test_the_defaults():
    options = parse_arguments(["--runtime-dir", "/run/x"])
    assert options.socket == Path("/run/x/api.sock")
    assert options.default_vm == "default"
    assert options.ipc is None
    assert options.timeout is None


def test_a_server_is_pinned_by_name_or_by_path():
    assert parse_arguments(["--runtime-dir", "/r", "--vm", "a"]).ipc == Path("/r/a/vmm.ipc")
    assert parse_arguments(["--ipc", "/r/b.ipc"]).ipc == Path("/r/b.ipc")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--vm", "a", "--ipc", "/r/a.ipc"],
        ["--vm", "../a"],
        ["--pin", "web-1"],
        ["--pin", "../a=/r/a.sock"],
        ["--pin", "a=/" + "a" * 200],
        ["--pin", "a=/r/a.sock", "--vm", "a"],
        ["--socket-mode", "066"],
        ["--socket-mode", "1660"],
        ["--socket-mode", "rw"],
        ["--socket-group", "no-such-group"],
        ["--log-format", "xml"],
        ["--default-vm", "A"],
        ["--threads", "0"],
        ["--threads", "1000"],
        ["--threads", "x"],
        ["--shutdown-timeout", "0"],
        ["--timeout", "0"],
        ["--timeout", "-1"],
        ["--timeout", "nan"],
        ["--timeout", "inf"],
        ["--socket", "/" + "a" * 200],
        ["--log-level", "chatty"],
        ["extra"],
    ],
)
def test_what_makes_no_sense_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err
