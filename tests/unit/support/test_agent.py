# SPDX-License-Identifier: Apache-2.0
"""The agent's two halves understand each other; here its terminal is a pty."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import Agent
from tests.support.console import Console

AGENT = Path(__file__).parents[2] / "guests/agent/agent"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """Return an agent that has started, with its files in a folder of the test's."""
    script = tmp_path / "agent"
    script.write_text(AGENT.read_text().replace("/run/", f"{tmp_path}/"))
    master, slave = pty.openpty()
    command = ["sh", str(script), os.ttyname(slave)]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            with Agent(Console(master)) as agent:
                agent.wait(10.0)
                yield agent
        finally:
            process.kill()
            os.close(slave)


def test_output_and_status(agent: Agent) -> None:
    done = agent.run("echo out; echo err >&2; exit 130")
    assert (done.returncode, done.stdout) == (130, "out\nerr")
    assert agent.check("true") == ""


def test_what_the_kernel_says_in_between_is_left_out() -> None:
    """Lines of others stand on the same terminal."""
    console, guest = Console.pair()
    with Agent(console) as agent, guest:
        number = agent.start("cat file")
        assert guest.recv(100) == b"1 cat file\n"
        guest.sendall(
            b"VELUM-AGENT-BEGIN 1\r\nd29yZHMg\r\n[    1.0] some: warning\r\nb2YgYSBmaWxl\r\n"
            b"VELUM-AGENT-END 1 0\r\n"
        )
        assert agent.finish(number).stdout == "words of a file"


def test_failure_names_the_command_and_its_output(agent: Agent) -> None:
    with pytest.raises(AssertionError, match=r"ls /nowhere: status \d+: .*No such file"):
        agent.check("ls /nowhere")
