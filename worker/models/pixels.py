"""From bytes to what a vision model takes: the processor's arithmetic, as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BlipImageProcessorPil

from worker.engine.errors import LoadError
from worker.models.checkpoint import unreadable


def read_processor(model: str, config: Any) -> Any:
    """The image processor of a checkpoint. Raises LoadError, also when it contradicts the model."""
    try:
        # By its own name: where torchvision is installed, the automatic choice resizes otherwise.
        processor = BlipImageProcessorPil.from_pretrained(model)
    except Exception as error:
        raise unreadable(model, error) from error
    size, wanted = config.vision_config.image_size, processor.size
    if (wanted["height"], wanted["width"]) != (size, size):
        raise LoadError(
            f"Checkpoint {model!r} contradicts itself: its processor makes images of"
            f" {wanted['height']}x{wanted['width']}, its vision model takes {size}x{size};"
            " correct size in preprocessor_config.json."
        )
    return processor


class Pixels:
    """Normalises images that are already of the model's size."""

    def __init__(self, processor: Any, image_size: int, device: torch.device) -> None:
        self.image_size = image_size
        self.resample = int(processor.resample)
        self.table = pixel_table(processor).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 (n, size, size, 3), on any device, to float32 (n, 3, size, size) on the model's."""
        size = self.image_size
        if pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"pixels are {tuple(pixels.shape[1:])}, not {(size, size, 3)}")
        planes = pixels.to(self.table.device).permute(3, 0, 1, 2).flatten(1).int()
        pairs = zip(self.table, planes, strict=True)
        normal = [table.index_select(0, plane) for table, plane in pairs]
        return torch.stack([plane.view(-1, size, size) for plane in normal], dim=1)


def pixel_table(processor: Any) -> Tensor:
    """What the processor makes of each value 0..255: float32 (3, 256).

    Asked of the processor itself, so that the table equals it bit for bit, whatever its settings.
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
