# SPDX-License-Identifier: Apache-2.0
"""What is in the Debian package, and that it is the same whoever builds it."""

from __future__ import annotations

import hashlib
import marshal
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from ipc_protocol.version import VERSION
from scripts.package.archive import package_version
from scripts.package.places import INSTALLED_PYTHON, RELEASES
from scripts.package.wheels import requirements
from tests.support.package import build, control_field

PROJECT = Path(__file__).resolve().parents[3]
COMMANDS = ("velum-api", "velum-vmm", "velumctl")
PROVIDED = {
    "ld-linux-x86-64.so.2": "libc6",
    "libc.so.6": "libc6",
    "libgcc_s.so.1": "libgcc-s1",
    "libm.so.6": "libc6",
    "libpthread.so.0": "libc6",
    "librt.so.1": "libc6",
    "libseccomp.so.2": "libseccomp2",
    "libstdc++.so.6": "libstdc++6",
    "liburing.so.2": "liburing2",
}
"""Debian's shared libraries that ours may need, and the packages that have them."""


def files(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.rglob("*")) if path.is_file())


def test_it_says_what_it_is(package: Path) -> None:
    assert control_field(package, "Package") == "velum"
    assert control_field(package, "Version") == VERSION
    assert package.name == f"velum_{VERSION}_amd64.deb"
    assert int(control_field(package, "Installed-Size")) > 1000


@pytest.mark.parametrize(("later", "earlier"), [(1, None), (10, 9)])
def test_a_revision_follows_what_was_before(later: int, earlier: int | None) -> None:
    versions = [package_version(later), "gt", package_version(earlier)]
    subprocess.run(["dpkg", "--compare-versions", *versions], check=True)


def test_everything_is_roots_and_nobody_elses_to_change(package: Path) -> None:
    listing = subprocess.check_output(["dpkg-deb", "--contents", package], text=True)
    for line in listing.splitlines():
        mode, owner = line.split()[:2]
        assert owner == "root/root", line
        assert re.fullmatch(r"(d|-)rwxr-xr-x|-rw-r--r--|l.{9}", mode), line


def test_its_files_are_those_whose_sums_it_has(root: Path) -> None:
    listed = dict(
        reversed(line.split("  ", 1)) for line in (root / "DEBIAN/md5sums").read_text().splitlines()
    )
    present = {
        name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for path in files(root)
        if not (name := str(path.relative_to(root))).startswith(("DEBIAN/", "etc/"))
    }
    assert listed == present


def test_what_an_operator_may_edit_is_never_overwritten(root: Path) -> None:
    listed = (root / "DEBIAN/conffiles").read_text().split()
    assert listed == [f"/{path.relative_to(root)}" for path in files(root / "etc")]


def test_every_unit_is_in_it(root: Path) -> None:
    folder = PROJECT / "deploy/systemd"
    suffixes = {".service", ".slice", ".socket", ".target"}
    units = {path for path in folder.glob("*") if path.suffix in suffixes}
    units.update(folder.glob("*.service.d/*.conf"))
    packed = root / "lib/systemd/system"
    found = {path.relative_to(packed) for path in files(packed)}
    assert found == {path.relative_to(folder) for path in units}
    assert (root / "usr/lib/sysusers.d/velum.conf").is_file()
    assert (root / "usr/lib/tmpfiles.d/velum.conf").is_file()


def test_the_libraries_it_needs_are_its_own_or_it_depends_on_them(root: Path) -> None:
    depends = control_field_of(root, "Depends")
    libraries = [path for path in files(root) if ".so" in path.suffixes]
    own = {path.name for path in libraries}
    assert len(libraries) > 5
    for path in libraries:
        dynamic = subprocess.check_output(["readelf", "--dynamic", path], text=True)
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic):
            assert name in own or PROVIDED[name] in depends, (path, name)


def control_field_of(root: Path, name: str) -> set[str]:
    """The packages that a field names, without their versions."""
    text = (root / "DEBIAN/control").read_text()
    (field,) = re.findall(rf"^{name}: (.+)$", text, re.MULTILINE)
    return {each.split()[0] for each in field.split(", ")}


def test_the_modules_are_those_that_were_tested(root: Path) -> None:
    wanted = {"velum": VERSION, **requirements()}
    installed = {
        found.metadata["Name"].lower().replace("_", "-"): found.version
        for found in metadata.distributions(path=[str(root / INSTALLED_PYTHON)])
    }
    assert installed == wanted


def test_every_shell_completes_velumctl(root: Path) -> None:
    for folder in ("bash-completion/completions", "fish/vendor_completions.d"):
        (path,) = (root / "usr/share" / folder).iterdir()
        assert "_VELUMCTL_COMPLETE" in path.read_text()
    zsh = root / "usr/share/zsh/vendor-completions/_velumctl"
    assert zsh.read_text().startswith("#compdef velumctl")


def test_each_library_has_its_licence_with_it(root: Path) -> None:
    text = (root / "usr/share/doc/velum/copyright").read_text()
    for found in metadata.distributions(path=[str(root / INSTALLED_PYTHON)]):
        if found.name != "velum":
            assert re.search(rf"\n\n{found.name} {found.version}: .+\n  /\S+", text), found.name
    for path in re.findall(r"^  /(\S+)$", text, re.MULTILINE):
        assert (root / path).is_file()


def test_every_package_of_ours_is_in_it(root: Path) -> None:
    for folder in ("services", "shared", "native"):
        for module in (PROJECT / folder).rglob("*.py"):
            name = module.relative_to(PROJECT / folder)
            packed = root / INSTALLED_PYTHON / name
            assert packed.is_file() or module == PROJECT / "native/kvm_shim/build_native.py", name


def test_every_module_is_compiled_for_good(root: Path) -> None:
    """Its byte code says of itself that no source has to be looked at."""
    modules_folder = root / INSTALLED_PYTHON
    (release,) = re.findall(
        rf"^    place=/{RELEASES}/(\S+)$", (root / "DEBIAN/postinst").read_text(), re.MULTILINE
    )
    modules = [path for path in files(modules_folder) if path.suffix == ".py"]
    assert len(modules) > 500
    for module in modules:
        code = module.parent / "__pycache__" / f"{module.stem}.cpython-311.pyc"
        content = code.read_bytes()
        assert int.from_bytes(content[4:8], "little") == 1, module
        # Who finds another path in it, corrects that of every function at each start.
        place = Path(marshal.loads(content[16:]).co_filename)
        assert place == Path("/", RELEASES, release, module.relative_to(modules_folder)), module


def test_nothing_in_it_tells_where_it_was_built(root: Path) -> None:
    here = os.fsencode(PROJECT)
    assert [path for path in files(root) if here in path.read_bytes()] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_takes_no_module_but_the_package_s(
    command: str, root: Path, tmp_path: Path
) -> None:
    """Neither from the user's environment, nor from the folder it is started in."""
    text = (root / "usr/bin" / command).read_text()
    assert text.startswith("#!/usr/bin/python3 -IS\n")
    relocated = tmp_path / command
    ending = "import atexit; atexit.register(lambda: print(*(\n"
    ending += "    getattr(m, '__file__', None) or '' for m in sys.modules.values()), sep='\\n'))\n"
    current = '"/usr/lib/velum/current"'
    assert current in text
    relocated.write_text(
        text.replace(current, repr(str(root / INSTALLED_PYTHON))).replace(
            "import sys\n", f"import sys\n{ending}", 1
        )
    )
    for name in ("msgspec.py", "zmq.py", "click.py"):
        (tmp_path / name).write_text("raise SystemExit('not this one')\n")
    relocated.chmod(0o755)
    output = subprocess.check_output(
        [relocated, "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        text=True,
    )
    version, *loaded = output.split("\n")
    assert version == f"{command} v{VERSION}"
    allowed = (str(root / INSTALLED_PYTHON), "/usr/lib/python3", str(relocated))
    assert [path for path in loaded if path and not path.startswith(allowed)] == []


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_the_maintainer_scripts_are_shell_and_stop_at_a_failure(script: str, root: Path) -> None:
    path = root / "DEBIAN" / script
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert "\nset -e\n" in path.read_text()
    subprocess.run(["sh", "-n", path], check=True)


def test_who_builds_it_again_gets_the_same_bytes(package: Path) -> None:
    before = {path.name: digest(path) for path in package.parent.glob("*.whl")}
    before[package.name] = digest(package)
    again = build(environment={"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "1"})
    after = {path.name: digest(path) for path in package.parent.glob("*.whl")}
    assert {**after, again.name: digest(again)} == before


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.usefixtures("package")
def test_the_wheels_alone_are_an_installation() -> None:
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install"]
    source = ["--dry-run", "--ignore-installed", "--no-index", "--find-links", PROJECT / "dist"]
    elsewhere = {**os.environ, "PIP_CONFIG_FILE": os.devnull}
    said = subprocess.check_output([*pip, *source, f"velum=={VERSION}"], text=True, env=elsewhere)
    for name, version in requirements().items():
        assert f"{name.replace('-', '_')}-{version}" in said.lower(), name
