"""The adapters that a model computes beside its weights, and those of the rows that it runs now."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from worker.engine.protocol import AdapterInfo, unknown_adapter


class RowAdapters:
    """The named adapters of a model.

    A forward pass in a `with` block of `select` or `use` applies to each row its own adapter. As
    with torch's inference mode, a block concerns its thread only: a beam search that is suspended
    in its thread does not change the rows of the others.
    """

    def __init__(
        self, infos: Sequence[AdapterInfo] = (), device: torch.device | None = None
    ) -> None:
        self.infos, self.device = tuple(infos), device
        self._numbers = {info.name: number for number, info in enumerate(infos, start=1)}
        #: Adapters that change the features of an image.
        self.of_features = frozenset(info.name for info in infos if info.changes_features)
        self._current = threading.local()

    @property
    def indices(self) -> Tensor | None:
        """Number of each row's adapter (rows,) int64, 0 for none; None if no row has one."""
        indices: Tensor | None = getattr(self._current, "indices", None)
        return indices

    @property
    def active(self) -> bool:
        """True if a row has an adapter."""
        return self.indices is not None

    def error(self, name: str) -> str | None:
        """Return the error of an unknown name as one sentence, or None."""
        return unknown_adapter(name, self.infos)

    @contextmanager
    def select(self, names: Sequence[str]) -> Iterator[None]:
        """Apply to each row the adapter of this name; "" is none.

        A single name applies to all rows of a batch.
        """
        indices = None
        if any(names):
            numbers = [self._numbers[name] if name else 0 for name in names]
            indices = torch.tensor(numbers, device=self.device)
        with self.use(indices):
            yield

    @contextmanager
    def use(self, indices: Tensor | None) -> Iterator[None]:
        """Apply the adapters of these numbers; see `indices`."""
        previous, self._current.indices = self.indices, indices
        try:
            yield
        finally:
            self._current.indices = previous
