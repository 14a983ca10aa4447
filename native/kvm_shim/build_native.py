# SPDX-License-Identifier: Apache-2.0
"""Describe the extension module `kvm_shim._native` to cffi and setuptools.

The declarations are the public headers' own, between their two "cffi" marks; the sources
are every file in src/. The environment variable VELUM_SANITIZE (for example
"address,undefined") builds with those sanitizers.
"""

import os
import re
from pathlib import Path

from cffi import FFI

__all__ = ["WARNINGS", "ffibuilder"]

HERE = Path(__file__).resolve().parent
# Extension sources have to be named relative to the directory of setup.py.
ROOT = HERE.parent.parent
HEADERS = [
    HERE / "include" / name for name in ("kvm_shim.h", "kvm_shim_virtio.h", "kvm_shim_seccomp.h")
]

# For our own sources only: what cffi generates and Python.h would not pass (see setup.py).
WARNINGS = [
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wpointer-arith",
    "-Wcast-qual",
    "-Wwrite-strings",
    "-Wvla",
    "-Wundef",
    "-Wformat=2",
    "-Wimplicit-fallthrough",
    "-Werror",
]


def declarations() -> str:
    """Return the C declarations of the public headers."""
    marked = re.compile(r"/\* cffi: begin \*/(.*)/\* cffi: end \*/", re.DOTALL)
    parts = [marked.search(header.read_text()) for header in HEADERS]
    if None in parts:
        raise SystemExit(f"{HEADERS}: the cffi marks are missing")
    return "".join(part.group(1) for part in parts if part is not None)


def relative(paths: list[Path]) -> list[str]:
    """Return the paths in a stable order, relative to the project's root."""
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def sanitizer_flags() -> list[str]:
    """Return the flags for the sanitizers that the environment asks for."""
    names = os.environ.get("VELUM_SANITIZE", "")
    if not names:
        return []
    return [
        f"-fsanitize={names}",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
        "-g",
        "-O1",
    ]


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "kvm_shim._native",
    '#include "kvm_shim_seccomp.h"\n#include "kvm_shim_virtio.h"',
    sources=relative(list((HERE / "src").glob("*.c"))),
    depends=relative([*HEADERS, *(HERE / "src").glob("*.h")]),
    include_dirs=relative([HEADERS[0].parent]),
    define_macros=[("_GNU_SOURCE", "1")],
    extra_compile_args=["-O2", "-fvisibility=hidden", "-pthread", *sanitizer_flags()],
    libraries=["seccomp", "uring"],
    extra_link_args=["-pthread", "-Wl,-z,relro,-z,now", *sanitizer_flags()],
)
