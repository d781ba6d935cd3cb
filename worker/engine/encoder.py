"""Image features of rows: from the feature cache, or by encoding each image once."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from worker.engine.feature_cache import FeatureCache
from worker.engine.halving import Failure, Halving
from worker.engine.model import Vision
from worker.engine.row import Row

#: Maximum images per run of the vision encoder: the best throughput on a CPU, nearly the best on a
#: GPU.
MAX_ENCODE_BATCH = 32


class Encoder:
    """The vision encoder of a model, behind a feature cache."""

    def __init__(self, model: Vision, cache: FeatureCache) -> None:
        self.model, self.cache = model, cache
        self.images = 0  # encoded since the start
        self.hits = 0  # rows served from the cache or by another row's encoding
        self.batches = Halving(self._encode, MAX_ENCODE_BATCH)

    def run(self, rows: Sequence[Row]) -> None:
        """Set every row's feature or failure."""
        missing: dict[str, list[Row]] = {}
        for row in rows:
            image_hash = row.request.image_hash
            # A feature that the row took when it was added survives eviction from the cache.
            row.feature = self.cache.get(image_hash) if row.feature is None else row.feature
            if row.feature is None:
                missing.setdefault(image_hash, []).append(row)
        self.hits += len(rows) - len(missing)
        # Apart, so that an adapter's images do not change the kernels of the others.
        changed = [groups for groups in missing.values() if self._adapter(groups)]
        plain = [groups for groups in missing.values() if not self._adapter(groups)]
        for part in (plain, changed):
            self._run(part)
        now = time.monotonic()
        for row in rows:
            row.encoded_at = now

    def _run(self, images: list[list[Row]]) -> None:
        for groups, result in self.batches.run(images):
            if isinstance(result, Failure):
                for row in groups[0]:
                    row.failure = result
            else:
                self._assign(groups, result)

    def _adapter(self, rows: list[Row]) -> str:
        """Return the adapter of the features that rows share; empty for none."""
        name = rows[0].request.adapter
        return name if name in self.model.adapters.of_features else ""

    def _assign(self, groups: Sequence[list[Row]], features: Tensor) -> None:
        for rows, view in zip(groups, features, strict=True):
            feature = view.clone()  # a view would keep the features of the whole batch in memory
            self.cache.put(rows[0].request.image_hash, feature)
            for row in rows:
                row.feature = feature

    def _encode(self, groups: Sequence[list[Row]]) -> Tensor:
        """Encode one image for each group of rows that share it."""
        frame, count = self.model.frame, len(groups)
        joined = bytearray().join(rows[0].request.pixels or b"" for rows in groups)
        pixels = torch.frombuffer(joined, dtype=torch.uint8).view(
            count, frame.height, frame.width, 3
        )
        with self.model.adapters.select(list(map(self._adapter, groups))):
            features = self.model.encode(pixels.to(self.model.device))
        self.images += count
        return features
