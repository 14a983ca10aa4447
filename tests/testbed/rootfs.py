# SPDX-License-Identifier: Apache-2.0
"""Installs Debian into an image of a file system, as root or as an ordinary user."""

import os
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.guests.linux.kernel import suite

__all__ = ["UNNEEDED", "install"]

UNNEEDED = ("doc", "info", "lintian", "locale", "man")
"""Folders of /usr/share that stay empty."""


def install(
    target: Path,
    packages: Sequence[str],
    size: str,
    *,
    filesystem: Sequence[str],
    hooks: Sequence[str] = (),
) -> None:
    """Install packages and make ``target/disk.img`` of them.

    Args:
        target: An empty folder.
        packages: Beside the essential ones.
        size: Of the file system, as mke2fs takes it; the file is sparse.
        filesystem: More arguments for mke2fs.
        hooks: Commands of mmdebstrap's after the installation.
    """
    tree, disk = target / "root", target / "disk.img"
    environment = os.environ | {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"] + ":/usr/sbin"}
    # An ordinary user gets subordinate ids, and everything that touches the tree
    # runs under the same mapping, so that files keep their owners.
    privileged = os.geteuid() == 0
    mapped = [] if privileged else ["mmdebstrap", "--unshare-helper"]
    run = partial(subprocess.run, check=True, env=environment, stdout=subprocess.DEVNULL)
    target.chmod(0o755 if privileged else 0o777)
    run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--format=directory"),
            f"--mode={'root' if privileged else 'unshare'}",
            '--aptopt=Acquire::Languages "none"',
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNNEEDED),
            f"--include={','.join(packages)}",
            *(f"--customize-hook={hook}" for hook in hooks),
            *(suite(), tree),
        ]
    )
    options = "lazy_itable_init=1,nodiscard"
    make = ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-E", options, *filesystem]
    run([*mapped, *make, "-d", tree, disk, size])
    run([*mapped, "rm", "-rf", "--one-file-system", tree])
    target.chmod(0o755)
