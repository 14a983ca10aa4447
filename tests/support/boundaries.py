# SPDX-License-Identifier: Apache-2.0
"""Has the probe try what it can from within the sandbox of a service's unit.

The unit stays as it is, but for what it starts: a drop-in puts the probe in the place of the
program, so whatever systemd has set up for that one is what the probe meets.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support import boundary_probe
from tests.support.systemd import LIMIT, drop_in, systemctl

__all__ = ["Answer", "Attempt", "probe_freely", "probe_unit"]

Attempt = tuple[Any, ...]
"""The name of one of the probe's attempts, and its arguments."""

_PLACE: Final = Path("/usr/local/lib/velum-boundaries")
"""Where every sandbox lets its service read, and none lets it write."""
_PYTHON: Final = ("/usr/bin/python3", "-IS")
_NAME: Final = "zz-probe"

_INSTEAD: Final = """\
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
ExecStart=
ExecStart={command}
StandardOutput=append:{answers}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt."""

    crossed: bool
    got: Any
    """What it got, or what the system said to it."""


def probe_unit(unit: str, attempts: Sequence[Attempt], addition: str = "") -> list[Answer]:
    """Try from within the sandbox of a unit, in the place of its program.

    Args:
        unit: Whose sandbox.
        attempts: What to try.
        addition: The text of a drop-in that widens it.
    """
    with _prepared(attempts) as (command, answers):
        instead = _INSTEAD.format(command=" ".join(command), answers=answers)
        systemctl("stop", unit)
        drop_in(unit, _NAME, f"{addition}\n{instead}")
        try:
            systemctl("start", unit)
            systemctl("stop", unit)
        finally:
            drop_in(unit, _NAME, None)
        return _read(answers)


def probe_freely(attempts: Sequence[Attempt]) -> list[Answer]:
    """Try as this process's user and in no sandbox, which shows what there is to cross."""
    with _prepared(attempts) as (command, answers):
        with answers.open("wb") as output:
            subprocess.run(command, stdout=output, check=True, timeout=LIMIT)
        return _read(answers)


@contextlib.contextmanager
def _prepared(attempts: Sequence[Attempt]) -> Iterator[tuple[list[str], Path]]:
    """Put the probe where it can be run; give the command, and where the answers will be."""
    _PLACE.mkdir(mode=0o755, parents=True)
    try:
        script, request = _PLACE / "probe.py", _PLACE / "attempts.json"
        shutil.copyfile(boundary_probe.__file__, script)
        request.write_text(json.dumps(attempts))
        for path in (script, request):
            path.chmod(0o644)
        yield [*_PYTHON, str(script), str(request)], _PLACE / "answers.json"
    finally:
        shutil.rmtree(_PLACE)


def _read(answers: Path) -> list[Answer]:
    # The unit's other commands write there as well, should they have something to say.
    (line,) = (line for line in answers.read_text().splitlines() if line.startswith("["))
    return [Answer(**answer) for answer in json.loads(line)]
