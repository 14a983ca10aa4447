# SPDX-License-Identifier: Apache-2.0
"""The folder of things that are downloaded or built once: images, kernels, guests."""

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["cached", "clean", "path_of", "root", "say"]

STARTED = time.monotonic()


def root() -> Path:
    """Return the cache folder: $VELUM_CACHE, or ~/.cache/velum."""
    return Path(os.environ.get("VELUM_CACHE") or Path.home() / ".cache/velum").absolute()


def say(text: str) -> None:
    """Show progress on standard error."""
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", file=sys.stderr, flush=True)


def path_of(name: str, recipe: Iterable[str | bytes]) -> Path:
    """Return where the result of `recipe` is, or will be."""
    digest = hashlib.sha256()
    for part in recipe:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data) + data)
    return root() / f"{name}-{digest.hexdigest()[:16]}"


def cached(name: str, recipe: Iterable[str | bytes], build: Callable[[Path], None]) -> Path:
    """Return the folder that `build` filled for `recipe`, calling it if there is none.

    The folder appears at its place complete or not at all, and of two processes
    that want it at once, one builds while the other waits.
    """
    place = path_of(name, recipe)
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir():
            return place
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=place.parent))
        try:
            work.chmod(0o755)
            build(work)
            work.rename(place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return place


def clean() -> None:
    """Remove everything that is cached."""
    shutil.rmtree(root(), ignore_errors=True)
