# SPDX-License-Identifier: Apache-2.0
"""Build the Debian package and its wheels into dist/, and print where they are."""

import argparse
import fcntl
import os
import shutil
import sys

from scripts.package.archive import make_archive, package_version, release_name
from scripts.package.places import BUILD, PROJECT
from scripts.package.tree import make_tree
from scripts.package.wheels import make_wheels


def main() -> int:
    """Build, once at a time."""
    parser = argparse.ArgumentParser(prog="python -m scripts.package", description=__doc__)
    parser.add_argument(
        "--revision", type=int, help="a number behind the version, for a package that follows it"
    )
    options = parser.parse_args()
    version = package_version(options.revision)
    os.umask(0o022)
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wheels = make_wheels()
        release = release_name(version, wheels)
        root = BUILD / "root"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        make_tree(root, wheels, release)
        package = make_archive(root, version, release)
    for path in (package, *wheels):
        print(path.relative_to(PROJECT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
