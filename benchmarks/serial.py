"""The baseline: a loop without a queue, as fast as possible.

One process decodes, resizes and runs `generate` on batches, with all cores for torch. It avoids the
image processor's overhead.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, Blip2ForConditionalGeneration

#: Candidates for the best batch size.
SIZES = (8, 16, 32, 64, 128)


class Serial:
    """A plain captioning loop over encoded images."""

    def __init__(self, model: str) -> None:
        torch.set_num_threads(os.cpu_count() or 1)
        self.processor: Any = AutoProcessor.from_pretrained(model)  # type: ignore[no-untyped-call]
        self.model: Any = Blip2ForConditionalGeneration.from_pretrained(model)
        images = self.processor.image_processor
        self.side = int(images.size["height"])
        self.mean = torch.tensor(images.image_mean).view(3, 1, 1)
        self.std = torch.tensor(images.image_std).view(3, 1, 1)

    def run(self, encoded: Sequence[bytes], batch_size: int) -> list[str]:
        """Return captions, in order."""
        texts: list[str] = []
        for first in range(0, len(encoded), batch_size):
            texts += self.captions(self.pixels(encoded[first : first + batch_size]))
        return texts

    def pixels(self, encoded: Sequence[bytes]) -> torch.Tensor:
        """Return normalised pixels (n, 3, side, side)."""
        square = (self.side, self.side)
        pictures = [
            np.asarray(
                Image.open(io.BytesIO(image))
                .convert("RGB")
                .resize(square, Image.Resampling.BICUBIC)
            )
            for image in encoded
        ]
        stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        return (stacked.float() / 255 - self.mean) / self.std

    @torch.inference_mode()
    def captions(self, pixels: torch.Tensor) -> list[str]:
        """Return greedy captions of at most 20 tokens."""
        ids = self.model.generate(pixel_values=pixels, max_new_tokens=20)
        texts = self.processor.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def best_size(self, encoded: Sequence[bytes]) -> int:
        """Return the batch size with the highest throughput on these images."""
        self.run(encoded[:64], 32)  # warm

        def seconds(size: int) -> float:
            started = time.perf_counter()
            self.run(encoded, size)
            return time.perf_counter() - started

        return min(SIZES, key=seconds)
