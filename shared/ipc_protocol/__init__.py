# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of Velum's processes and the way between them.

Nothing is re-exported, so that a process loads only the modules it names: a worker
never pays for the client's, and an API process never for the server's.
"""

from __future__ import annotations

__all__: list[str] = []
