# SPDX-License-Identifier: Apache-2.0
"""The documents say what the repository holds: promises, links, options, changelog."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
PROMISE = re.compile(
    r"^\| *(?P<name>[A-Z]+-\d+) *\|(?P<promise>.+)\|(?P<shown>[^|]+)\|$", re.MULTILINE
)
NAMED = re.compile(r"`((?:services|shared|native|tests|scripts)/[\w./-]+?\.\w+)(?::(\w+))?`")
TEST = re.compile(r"`(tests/[\w./-]+\.py)(?:::(\w+))?`")
LINK = re.compile(r"\[[^\]]+\]\((?!https?:)(?P<target>[^)#\s]+)(?:#[^)]*)?\)")


def promises() -> list[tuple[str, str]]:
    """Each row of the specification: its name and the cell that says what shows it."""
    text = (ROOT / "SPECIFICATION.md").read_text()
    return [(row["name"], row["shown"]) for row in PROMISE.finditer(text)]


def test_there_are_promises_and_each_name_is_used_once() -> None:
    names = [name for name, _ in promises()]
    assert len(names) >= 20
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("name", "shown"), promises(), ids=lambda value: value.split(" ")[0])
def test_each_promise_names_what_shows_it(name: str, shown: str) -> None:
    """A promise names a test that exists, or a metric that the benchmark prints."""
    references = re.findall(r"`([^`]+)`", shown)
    assert references, f"{name} names no test or benchmark"
    for reference in references:
        if reference.startswith("make bench: "):
            metric = reference.removeprefix("make bench: ")
            sources = ROOT.glob("tests/integration/performance/*.py")
            assert any(metric in path.read_text() for path in sources), (name, metric)
            continue
        path, _, function = reference.partition("::")
        assert (ROOT / path).is_file(), (name, path)
        if function:
            assert f"def {function}(" in (ROOT / path).read_text(), (name, reference)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    for link in LINK.finditer(document.read_text()):
        target = document.parent / link["target"]
        assert target.exists(), f"{document.name} links to {link['target']}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_in_documents_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in re.findall(r"`make ([a-z-]+)", document.read_text()):
        assert line in targets, f"{document.name} names `make {line}`"


def test_files_named_in_the_architecture_exist() -> None:
    """`path/to/file.py` and `path/to/file.c:function` in the architecture are real."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = NAMED.findall(text)
    assert len(named) >= 15
    for path, function in named:
        assert (ROOT / path).is_file(), path
        if function:
            assert re.search(rf"\b{function}\b", (ROOT / path).read_text()), (path, function)


@pytest.mark.parametrize("document", ["security.md", "threat-model.md"])
def test_tests_named_for_reviewers_exist(document: str) -> None:
    """What is said to stop an attack is shown by a test that is there."""
    named = TEST.findall((ROOT / "docs" / document).read_text())
    assert named
    for path, function in named:
        assert (ROOT / path).is_file(), path
        assert not function or f"def {function}(" in (ROOT / path).read_text(), (path, function)


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings, "no release in the changelog"
    for heading in headings:
        assert re.fullmatch(r"Unreleased|\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}", heading), heading


def test_nothing_of_one_machine_is_in_the_repository() -> None:
    """No path of a home or work folder stands in a tracked file."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "grep", "-nIE", r"/(root|home|work)/[a-z]", "--", "."],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in listed.stdout.splitlines() if "test_documents.py" not in line]
    assert lines == []
