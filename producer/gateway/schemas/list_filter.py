"""The filter of the lists of jobs and batches, which queries create and lists apply."""

from __future__ import annotations

from dataclasses import dataclass

from ...contract import Task
from .metadata import RequestMetadata


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Selection of the jobs or batches of a name."""

    status: str | None = None
    task: Task | None = None
    #: Times of the submission, Unix s.
    since: float | None = None
    until: float | None = None
    #: Pairs that the metadata must contain.
    pairs: tuple[tuple[str, str], ...] = ()

    def selects(self, metadata: RequestMetadata) -> bool:
        """Return whether the metadata of a job or batch has the task and the pairs."""
        if self.task not in (None, metadata.task):
            return False
        return all(metadata.pairs.get(name) == value for name, value in self.pairs)
