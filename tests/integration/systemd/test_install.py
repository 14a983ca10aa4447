# SPDX-License-Identifier: Apache-2.0
"""The package on a clean Debian: installed by apt, run by systemd, removed again."""

from __future__ import annotations

import subprocess

import pytest

pytestmark = pytest.mark.systemd


def test_apt_installed_it_with_what_it_needs() -> None:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "velum"]
    assert subprocess.check_output(query, text=True).strip() == "ii"
