# SPDX-License-Identifier: Apache-2.0
"""This tier is only run when asked for: it builds other people's clients from their registries."""

import os

collect_ignore_glob = [] if os.environ.get("VELUM_REQUIRE_CLIENTS") == "1" else ["test_*.py"]
