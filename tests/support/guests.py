# SPDX-License-Identifier: Apache-2.0
"""Build the tiny guests of tests/guests/.

``python -m tests.support.guests`` builds them all, for machines without a compiler to use.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["COUNTERS", "build", "names"]

COUNTERS = 0x200000
"""Where a guest counts in RAM, 64 bytes for each vCPU (runtime/io.h)."""

_ROOT = Path(__file__).parents[2]
_SOURCES = _ROOT / "tests/guests"
_CACHE = _ROOT / "build/guests"

_FLAGS = (
    *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wsign-conversion"),
    *("-Wstrict-prototypes", "-Wmissing-prototypes", "-Wvla", "-Wundef", "-Werror"),
    *("-ffreestanding", "-nostdlib", "-static", "-mgeneral-regs-only", "-mno-red-zone"),
    *("-fno-pic", "-no-pie", "-fno-stack-protector", "-fcf-protection=none"),
    *("-fno-asynchronous-unwind-tables", "-fno-tree-loop-distribute-patterns"),
    *("-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,--no-warn-rwx-segments"),
)


def names() -> list[str]:
    """List the guests there are."""
    return sorted(path.stem for path in _SOURCES.glob("*.c"))


def build(name: str) -> Path:
    """Compile the guest, unless it has been, and return its ELF file."""
    source = _SOURCES / f"{name}.c"
    runtime = _SOURCES / "runtime"
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for path in (source, *sorted(runtime.iterdir())):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    elf = _CACHE / f"{name}-{digest.hexdigest()[:16]}.elf"
    if elf.exists():
        return elf
    _CACHE.mkdir(parents=True, exist_ok=True)
    # Another process may build the same guest: each has its own file, and renames it.
    with tempfile.TemporaryDirectory(dir=_CACHE) as work:
        output = Path(work) / "guest.elf"
        linker_script = f"-Wl,-T,{runtime / 'guest.ld'}"
        files = [str(runtime / "crt.S"), str(source), linker_script, "-o", str(output)]
        subprocess.run([os.environ.get("CC", "gcc"), *_FLAGS, *files], check=True)
        output.rename(elf)
    return elf


if __name__ == "__main__":
    for guest in names():
        sys.stdout.write(f"{build(guest).relative_to(_ROOT)}\n")
