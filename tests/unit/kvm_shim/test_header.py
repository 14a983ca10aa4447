# SPDX-License-Identifier: Apache-2.0
"""The C core keeps its promises of form: one header, no prints, no exits, no globals."""

import re
import subprocess
from pathlib import Path

import pytest
from kvm_shim._native import lib

import kvm_shim

SHIM = Path(kvm_shim.__file__).parent
HEADERS = sorted((SHIM / "include").glob("*.h"))
SOURCES = sorted((SHIM / "src").glob("*.[ch]"))
LINES_MAX = 500

COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', re.DOTALL)
FORBIDDEN = re.compile(
    r"\b(?:printf|fprintf|vprintf|dprintf|puts|perror|syslog|stdout|stderr"
    r"|exit|_exit|abort|assert|sigaction|signal|pthread_cancel|strcpy|strcat|sprintf)\s*(?=\()"
    r"|\bstd(?:out|err)\b"
)


def code(path):
    """Return a file without its comments and strings."""
    return COMMENT_OR_STRING.sub(" ", path.read_text())


def declared():
    return {name for path in HEADERS for name in re.findall(r"\b(kvmshim_\w+)\(", code(path))}


def test_the_binding_has_what_the_header_declares():
    assert {name for name in dir(lib) if name.startswith("kvmshim_")} == declared()


def test_the_sources_define_what_the_header_declares():
    defined = set()
    for path in SOURCES:
        if path.suffix == ".c":
            defined.update(
                re.findall(r"^(?:const )?[a-z]\w*[ *]+(kvmshim_\w+)\(", code(path), re.MULTILINE)
            )
    assert defined == declared()


def test_the_extension_exports_nothing_but_its_init():
    (extension,) = SHIM.glob("_native*.so")
    command = ["nm", "--dynamic", "--defined-only", "--format=just-symbols", str(extension)]
    symbols = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    sanitizer = re.compile(r"_?_(asan|ubsan|odr_asan)\w*|__start_asan\w*|__stop_asan\w*")
    assert [name for name in symbols if not sanitizer.match(name)] == ["PyInit__native"]


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.name)
def test_a_header_is_c_by_itself(path):
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
    subprocess.run([*command, "-x", "c", str(path)], check=True, timeout=60)


@pytest.mark.parametrize("path", [*HEADERS, *SOURCES], ids=lambda path: path.name)
def test_a_source(path):
    text = path.read_text()
    assert text.startswith("/* SPDX-License-Identifier: Apache-2.0 */\n")
    assert not FORBIDDEN.findall(code(path)), "the shim reports by its return value"
    lines = text.splitlines()
    assert len(lines) <= LINES_MAX
    assert [line for line in lines if len(line) > 100 or line != line.rstrip()] == []


def test_the_extension_has_no_mutable_globals():
    """Nothing of ours is in a writable section; tables of constants are read-only."""
    (extension,) = SHIM.glob("_native*.so")
    command = ["objdump", "--syms", str(extension)]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    objects = re.findall(r" O \.(?:t?bss|t?data)\t\w+ +(?:\.hidden )?(\S+)$", table, re.MULTILINE)
    toolchain = re.compile(r"_cffi_\w+|completed\.\d+|__dso_handle|__TMC_END__|.*(?:asan|ubsan).*")
    assert [name for name in objects if not toolchain.fullmatch(name)] == []
