# SPDX-License-Identifier: Apache-2.0
"""The bus's promise to devices: after a removal nobody is in the region any more."""

import os
import subprocess
from pathlib import Path

import kvm_shim

SHIM = Path(kvm_shim.__file__).parent
PROGRAM = Path(__file__).with_name("bus_race.c")
ROUNDS = 3000


def test_regions_come_and_go_under_readers(tmp_path):
    program = tmp_path / "bus_race"
    sources = [PROGRAM, SHIM / "src/bus.c", SHIM / "src/error.c"]
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Werror"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    includes = [f"-I{SHIM / 'include'}", f"-I{SHIM / 'src'}"]
    subprocess.run(
        ["gcc", *flags, *sanitizers, *includes, *sources, "-o", program], check=True, timeout=100
    )
    # In a run of the tests under sanitizers, the program brings its own.
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    run = subprocess.run(
        [program, str(ROUNDS)], check=False, capture_output=True, timeout=60, env=environment
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert b" 0 failures" in run.stdout
    assert not run.stdout.startswith(b"0 claimed")
