# SPDX-License-Identifier: Apache-2.0
"""The archives are what the cpio of busybox takes them for."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.testbed.cpio import archive, directory, file, script


def test_archive_unpacks_to_its_entries(tmp_path: Path) -> None:
    data = archive([directory("d"), file("d/odd", b"12345"), script("run", "#!/bin/sh\n")])
    subprocess.run(["busybox", "cpio", "-i"], input=data, cwd=tmp_path, check=True)
    assert (tmp_path / "d/odd").read_bytes() == b"12345"
    assert (tmp_path / "run").read_text() == "#!/bin/sh\n"
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("d", "d/odd", "run")] == [
        0o755,
        0o644,
        0o755,
    ]


def test_every_part_is_aligned() -> None:
    """The kernel wants each header at a multiple of four, also in what is appended."""
    for size in range(5):
        assert len(archive([file("x" * (size + 1), b"y" * size)])) % 4 == 0
