# SPDX-License-Identifier: Apache-2.0
"""Whose work is in the package, and under which licences."""

from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from scripts.package.places import DEBIAN, INSTALLED_PYTHON

__all__ = ["copyright_text", "licence"]


def copyright_text(modules: Path) -> str:
    """Return the package's copyright file.

    Args:
        modules: The folder of the modules that are in it.
    """
    found = sorted(distributions(path=[str(modules)]), key=lambda each: each.name.lower())
    others = (line for each in found if each.name != "velum" for line in _paragraph(each))
    return (DEBIAN / "copyright").read_text() + "".join(f"{line}\n" for line in others)


def licence(distribution: Distribution) -> str:
    """Return what a distribution says of its licence, in one of three places."""
    about = distribution.metadata
    for field in ("License-Expression", "License"):
        if field in about:
            return str(about[field])
    classifiers = about.get_all("Classifier") or []
    said: str = next(each for each in classifiers if "License ::" in each)
    return said.rpartition(" :: ")[2]


def _paragraph(distribution: Distribution) -> Iterator[str]:
    yield ""
    yield f"{distribution.name} {distribution.version}: {licence(distribution)}"
    for path in sorted(distribution.files or (), key=str):
        if path.name.upper().startswith(("LICENSE", "COPYING")):
            yield f"  /{INSTALLED_PYTHON}/{path}"
