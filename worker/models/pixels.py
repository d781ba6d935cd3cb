"""Normalization of pixels by a look-up table, identical to the checkpoint's image processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BlipImageProcessorPil

from worker.engine.errors import LoadError
from worker.hub.reference import Snapshot
from worker.models.checkpoint import load_error


def read_processor(snapshot: Snapshot, config: Any) -> Any:
    """Load a checkpoint's image processor. Raises LoadError, also if it contradicts the model."""
    try:
        # An explicit class: with torchvision installed, the automatic choice resizes differently.
        processor = BlipImageProcessorPil.from_pretrained(snapshot.directory)
    except Exception as error:
        raise load_error(snapshot, error) from error
    size, output = config.vision_config.image_size, processor.size
    if (output["height"], output["width"]) != (size, size):
        raise LoadError(
            f"Checkpoint {snapshot.name!r} contradicts itself: its processor resizes images to"
            f" {output['height']}x{output['width']}, its vision model reads {size}x{size};"
            " correct `size` in preprocessor_config.json."
        )
    return processor


class Normalizer:
    """Normalization of images that already have the model's size."""

    def __init__(self, processor: Any, image_size: int, device: torch.device) -> None:
        self.image_size = image_size
        self.resample = int(processor.resample)
        self.table = pixel_table(processor).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map uint8 (n, size, size, 3) to float32 (n, 3, size, size) on the model's device."""
        size = self.image_size
        if pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"pixels are {tuple(pixels.shape[1:])}, not {(size, size, 3)}")
        planes = pixels.to(self.table.device).permute(3, 0, 1, 2).flatten(1).int()
        pairs = zip(self.table, planes, strict=True)
        values = [table.index_select(0, plane) for table, plane in pairs]
        return torch.stack([plane.view(-1, size, size) for plane in values], dim=1)


def pixel_table(processor: Any) -> Tensor:
    """Tabulate the processor's output for each value 0..255: float32 (3, 256).

    The processor itself computes the table, so that both are identical for all settings.
    """
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    batch = processor(
        ramp,
        do_resize=False,
        do_convert_rgb=False,
        input_data_format="channels_last",
        return_tensors="pt",
    )
    table: Tensor = batch.pixel_values.reshape(3, 256).float()
    return table
