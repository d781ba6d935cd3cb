"""Commits of hub models that the workers of a Redis run: answers of two commits differ."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from producer.ledger.leases import Leases
from worker.engine.protocol import ModelInfo

log = logging.getLogger(__name__)


class CommitMonitor:
    """Reports of this worker's commits; the first one logs other commits of the same models."""

    def __init__(self, leases: Leases, models: Iterable[ModelInfo]) -> None:
        self._leases = leases
        self._commits = {model.name: model.commit for model in models if model.commit}
        self._compared = False

    def report(self) -> None:
        """Report the commits as alive, if there are any."""
        if not self._commits:
            return
        reported = [f"{name}@{commit}" for name, commit in self._commits.items()]
        running = self._leases.report_models(reported)
        if not self._compared:
            self._compared = True
            self._compare(running)

    def _compare(self, running: Iterable[str]) -> None:
        for model in running:
            name, _, commit = model.partition("@")
            own = self._commits.get(name, commit)
            if own != commit:
                log.warning(
                    "another worker of this Redis runs %s at commit %s, and this one at %s: answers"
                    " may differ; set BLIPLINE_MODEL_REVISION on all workers",
                    *(name, commit, own),
                )
