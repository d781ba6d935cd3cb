"""Gives rows the features of their images: from the cache, or by encoding each image once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.engine.features import FeatureCache
from worker.engine.halving import Failure, Halving
from worker.engine.model import Vision
from worker.engine.row import Row

#: Images in one run of the vision encoder; on a CPU throughput is best here, on a GPU nearly so.
MAX_ENCODE_BATCH = 32


class Encoder:
    """The vision side of a model, behind a cache."""

    def __init__(self, model: Vision, cache: FeatureCache) -> None:
        self.model, self.cache = model, cache
        self.images = 0  # encoded since the start
        self.hits = 0  # rows that needed no encoding of their own
        self.batches = Halving(self._encode, MAX_ENCODE_BATCH)

    def run(self, rows: Sequence[Row]) -> None:
        """Every row gets its feature, or a failure."""
        unknown: dict[str, list[Row]] = {}
        for row in rows:
            image_hash = row.request.image_hash
            # A row may hold a feature since it came: eviction cannot take that away.
            row.feature = self.cache.get(image_hash) if row.feature is None else row.feature
            if row.feature is None:
                unknown.setdefault(image_hash, []).append(row)
        self.hits += len(rows) - len(unknown)
        for sharers, result in self.batches.run(list(unknown.values())):
            if isinstance(result, Failure):
                for row in sharers[0]:
                    row.failure = result
            else:
                self._hand_out(sharers, result)

    def _hand_out(self, sharers: Sequence[list[Row]], features: Tensor) -> None:
        for rows, feature in zip(sharers, features, strict=True):
            own = feature.clone()  # a view would keep the features of the whole batch in memory
            self.cache.put(rows[0].request.image_hash, own)
            for row in rows:
                row.feature = own

    def _encode(self, sharers: Sequence[list[Row]]) -> Tensor:
        """Features of one image for each group of rows that share it."""
        size, count = self.model.image_size, len(sharers)
        joined = bytearray().join(rows[0].request.pixels or b"" for rows in sharers)
        pixels = torch.frombuffer(joined, dtype=torch.uint8).view(count, size, size, 3)
        features = self.model.encode(pixels.to(self.model.device))
        self.images += count
        return features
