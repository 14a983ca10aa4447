# SPDX-License-Identifier: Apache-2.0
"""``GET /metrics``: everything there is to tell, at the moment it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

import falcon
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from api_server.metrics.workers import tell_workers
from api_server.services import Services
from api_server.survey import survey
from ipc_protocol.messages import Operation

__all__ = ["answer"]

PATIENCE: Final = 2.0
"""Seconds that a worker has to answer; Prometheus waits for ten."""


class _All(Collector):
    def __init__(self, *parts: Collector) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        yield from chain.from_iterable(part.collect() for part in self._parts)


def answer(req: falcon.Request, resp: falcon.Response, services: Services) -> None:
    """Answer with the metrics of this server and of all workers."""
    workers = tell_workers(survey(services.peers, Operation.VMM_METRICS, timeout=PATIENCE))
    encode, resp.content_type = choose_encoder(req.get_header("Accept") or "")
    resp.data = encode(_All(services.metrics.registry, workers))
