# SPDX-License-Identifier: Apache-2.0
"""Each page: its prose, with what the programs say of themselves in its place."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import api_server.main
from api_server.roles import Role
from api_server.routes import ROUTES
from ipc_protocol.version import VERSION
from scripts.package.manual.fields import fields
from scripts.package.manual.options import command_sections, common_options, options_of
from scripts.package.manual.roff import bold, entry
from scripts.package.places import DEBIAN, PROJECT, epoch
from velumctl.cli import SECTIONS, cli
from vmm_worker import command_line

__all__ = ["PAGES", "render"]

PAGES: Final = {path.name: path for path in sorted((DEBIAN / "man").iterdir())}
"""The page's name with its section, and where its prose is."""


def _roles() -> Iterator[str]:
    for role in Role:
        names = (path.rpartition("/")[2] for path, route in ROUTES.items() if route.role is role)
        yield from entry(bold(str(role)), " ".join(f"`{name}`" for name in names))


def _exit_codes() -> Iterator[str]:
    table = (PROJECT / "docs/velumctl.md").read_text()
    for code, when in re.findall(r"^\| (\d+) \| `\w+` \| (.+) \|$", table, re.MULTILINE):
        yield from entry(bold(code), when)


_GENERATED: Final[dict[str, Callable[[], Iterable[str]]]] = {
    "velum-api.options": lambda: options_of(api_server.main.make_parser()),
    "velum-vmm.options": lambda: options_of(command_line.make_parser()),
    "velumctl.options": lambda: common_options(cli),
    "velumctl.commands": lambda: command_sections(cli, SECTIONS),
    "velumctl.exits": _exit_codes,
    "file.fields": fields,
    "access.roles": _roles,
}
"""What stands for a line `@NAME@` of a page."""


def render(name: str) -> str:
    """Return a page as man(1) reads it."""
    date = datetime.fromtimestamp(epoch(), UTC).date().isoformat()
    lines: list[str] = []
    for line in PAGES[name].read_text().splitlines():
        key = line.strip("@")
        if line == f"@{key}@":
            lines += _GENERATED[key]()
        else:
            lines.append(line.replace("@VERSION@", VERSION).replace("@DATE@", date))
    return "\n".join([*lines, ""])
