# SPDX-License-Identifier: Apache-2.0
"""64 keep-alive clients that read and change at once: no wrong answer, nothing that grows."""

from pathlib import Path

from tests.integration.load import CLIENTS, Load, servers

SECONDS = 8.0
MIB = 1 << 20


def test_mixed_load_with_churn(tmp_path: Path) -> None:
    with servers(tmp_path) as (api, workers):
        load = Load()
        load.run(api, workers, SECONDS)
        assert "Traceback" not in api.read_log()
    assert not load.wrong
    assert load.answered > 10 * CLIENTS
    for usage in load.growth():
        assert usage.memory < 6 * MIB
        # A connection for each call that a worker has had at once is kept, 40 at most, and more
        # of them by chance: far fewer than there were requests.
        assert usage.descriptors < 300
        assert usage.threads <= 0
