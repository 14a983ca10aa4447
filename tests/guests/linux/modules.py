# SPDX-License-Identifier: Apache-2.0
"""Kernel modules and their dependencies, read from the modules themselves."""

import lzma
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.testbed.cpio import Entry, directory, file

__all__ = ["Module", "ordered", "packed"]

DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


class Module:
    """One module of a kernel's tree."""

    def __init__(self, path: Path) -> None:
        """Read the module at `path`."""
        data = path.read_bytes()
        self.name = canonical(path.name.partition(".ko")[0])
        self.data = lzma.decompress(data) if path.suffix == ".xz" else data
        found = DEPENDS.search(self.data)
        listed = found[1].decode().split(",") if found else []
        self.depends = [canonical(name) for name in listed if name]


def canonical(name: str) -> str:
    """Spell a module's name as the kernel does."""
    return name.replace("-", "_")


def ordered(tree: Path, wanted: Iterable[str]) -> list[Module]:
    """Return the wanted modules with those they need, each after its needs.

    Names without a file are left out: they are built into the kernel.
    """
    files = {canonical(p.name.partition(".ko")[0]): p for p in tree.rglob("*.ko*")}
    order: dict[str, Module] = {}

    def add(name: str) -> None:
        if name in order or name not in files:
            return
        module = Module(files[name])
        for needed in module.depends:
            add(needed)
        order[name] = module

    for name in wanted:
        add(canonical(name))
    return list(order.values())


def packed(tree: Path, wanted: Mapping[str, str]) -> list[Entry]:
    """Return /modules of an initramfs: the wanted modules, and the order to load them in.

    Each line of the file "order" is a name and the arguments given for it.
    """
    modules = ordered(tree, wanted)
    order = "".join(
        f"{module.name} {wanted.get(module.name, '')}".rstrip() + "\n" for module in modules
    )
    return [
        directory("modules"),
        *(file(f"modules/{module.name}.ko", module.data) for module in modules),
        file("modules/order", order.encode()),
    ]
