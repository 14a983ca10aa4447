# SPDX-License-Identifier: Apache-2.0
"""The server does what its specification says, whatever it is asked: a bounded look.

``python -m tests.integration.conformance`` looks for longer.
"""

import pytest

from tests.integration.conformance.fuzzing import Phases, fuzzing

SECONDS = 10


@pytest.mark.timeout(400)
def test_requests_made_from_the_specification() -> None:
    with fuzzing() as server:
        for phases in Phases:
            result = server.run(phases, seconds=SECONDS, seed=1)
            assert result.returncode == 0, result.stdout
            assert "not applicable" not in result.stdout, result.stdout
            assert not server.faults()
        assert server.statuses().total() > 50
