"""An LRU cache of image features by content hash: an image is encoded once for many questions."""

from __future__ import annotations

from collections import OrderedDict

import torch


class FeatureCache:
    """An LRU cache of image features, bounded in bytes.

    A feature is (queries, hidden): 160 KiB for blip2-opt-2.7b in half precision. Rows may
    continue to use a tensor after its eviction.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._features)

    def __contains__(self, image_hash: str) -> bool:
        return image_hash in self._features

    def get(self, image_hash: str) -> torch.Tensor | None:
        feature = self._features.get(image_hash)
        if feature is not None:
            self._features.move_to_end(image_hash)
        return feature

    def put(self, image_hash: str, feature: torch.Tensor) -> None:
        """Store a feature, which must own its memory: a view would keep a whole batch alive."""
        if feature.nbytes > self.max_bytes:
            return
        replaced = self._features.pop(image_hash, None)
        self.bytes += feature.nbytes - (replaced.nbytes if replaced is not None else 0)
        self._features[image_hash] = feature
        while self.bytes > self.max_bytes:
            self.bytes -= self._features.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        self._features.clear()
        self.bytes = 0
