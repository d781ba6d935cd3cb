"""The client of health checks and scrapes, whose callers wait for some seconds only."""

from __future__ import annotations

from typing import ClassVar

from ..connection.outage import outage_limit
from ..ledger.records import Depth
from ..ledger.statistics import LedgerStatistics
from .client import Client


class ProbeClient(Client):
    """A client that raises ConnectionFailed at once if Redis is down, and soon if it is silent."""

    #: Less than the timeouts of a readiness check (5 s) and of Prometheus (10 s).
    _timeout_s: ClassVar[float | None] = 3.0

    def depth(self) -> Depth:
        """Read the depth of the queues."""
        with outage_limit(0.0):
            return super().depth()

    def statistics(self) -> LedgerStatistics:
        """Read the statistics of the job store."""
        with outage_limit(0.0):
            return super().statistics()
