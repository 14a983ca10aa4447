# SPDX-License-Identifier: Apache-2.0
"""Device threads under ThreadSanitizer: pause, resume, reset, save and load while they work."""

import os
import re
import subprocess
from pathlib import Path

import pytest

import kvm_shim
from tests.support.network import namespace_problem, own_network

SHIM = Path(kvm_shim.__file__).parent
FOLDER = Path(__file__).with_name("races")
DEVICES = re.findall(r'\.name = "(\w+)"', (FOLDER / "devices.c").read_text())
SECONDS = 1


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Build the whole of the C core, with a KVM of the test's own."""
    binary = tmp_path_factory.mktemp("races") / "races"
    core = sorted(path for path in (SHIM / "src").glob("*.c") if path.name != "kvm.c")
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Werror"]
    # The fences of the rings are beyond ThreadSanitizer; what they order is atomic in itself.
    sanitizer = ["-fsanitize=thread", "-Wno-tsan"]
    includes = [f"-I{SHIM / 'include'}", f"-I{SHIM / 'src'}", f"-I{FOLDER}"]
    sources = [*sorted(FOLDER.glob("*.c")), *core]
    command = ["gcc", *flags, *sanitizer, *includes, "-o", binary, *sources, "-lseccomp", "-luring"]
    subprocess.run(command, check=True, timeout=300)
    return binary


@pytest.fixture
def _network(device):
    """Lend a network of its own to the device that needs one."""
    if device != "net":
        yield
        return
    problem = namespace_problem()
    if problem is not None:
        pytest.skip(problem)
    with own_network():
        yield


@pytest.mark.usefixtures("_network")
@pytest.mark.parametrize("device", DEVICES)
def test_a_device_is_paused_reset_and_moved_while_it_works(program, device):
    # In a run of the tests under sanitizers, the program brings its own.
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    environment["TSAN_OPTIONS"] = "halt_on_error=1:second_deadlock_stack=1"
    run = subprocess.run(
        [program, device, str(SECONDS)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(rf"{device}: [1-9]\d* requests, [1-9]\d* pauses\n", run.stdout)
