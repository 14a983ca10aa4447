# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

from api_server.metrics.counters import (
    BOOT,
    DERIVED,
    DEVICE,
    QUEUE,
    VCPU_EXITS,
    VCPU_SECONDS,
    VCPU_UNCLAIMED,
)

TOLD = [*DEVICE.values(), *QUEUE.values(), BOOT, VCPU_EXITS, VCPU_SECONDS, VCPU_UNCLAIMED]


def test_each_has_a_name_of_its_own_that_prometheus_takes():
    names = [told.metric for told in TOLD]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"velum(_[a-z]+)+", name), name
        assert not name.endswith("_total")


def test_each_is_described_by_a_sentence():
    for told in TOLD:
        assert told.description.endswith("."), told


def test_what_is_scaled_says_that_it_is_in_seconds():
    assert all(("seconds" in told.metric) == (told.scale != 1) for told in TOLD)


def test_nothing_is_both_told_and_left_out():
    assert not DERIVED & set(DEVICE)
