# SPDX-License-Identifier: Apache-2.0
"""Property tests that give the same examples everywhere and never time a single one."""

from hypothesis import settings

settings.register_profile("velum", derandomize=True, deadline=None)
settings.load_profile("velum")
