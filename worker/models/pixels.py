"""Normalization of pixels by a look-up table, identical to the checkpoint's image processor."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BlipImageProcessorPil
from transformers.utils.import_utils import is_torchvision_available

from worker.engine.errors import LoadError
from worker.engine.frame import TORCH_FILTERS, Frame, ImageBackend
from worker.hub.reference import Snapshot
from worker.models.checkpoint import load_error
from worker.models.vision import interpolate_positions

log = logging.getLogger(__name__)


def read_processor(snapshot: Snapshot, config: Any) -> Any:
    """Load a checkpoint's image processor, or its adapter's own; by default that of its family.

    Raises LoadError, also if it has no frame.
    """
    # It needs no torchvision, and reads the settings of both backends.
    processor_class: Any = BlipImageProcessorPil
    sources = [snapshot.adapter, snapshot] if snapshot.adapter else [snapshot]
    directories = [source.directory for source in sources]
    directory = next(filter(has_image_processor, directories), None)
    if directory is None:
        side = int(config.vision_config.image_size)
        log.warning(
            "%s has no image processor (preprocessor_config.json): images are resized to %dx%d and"
            " normalized as for the published models of its family",
            *(snapshot.name, side, side),
        )
        return processor_class(size={"height": side, "width": side})
    try:
        processor = processor_class.from_pretrained(directory)
    except Exception as error:
        raise load_error(snapshot, error) from error
    # Before the weights are loaded.
    read_frame(processor, snapshot)
    return processor


def choose_backend(name: str, processor: Any, snapshot: Snapshot) -> ImageBackend:
    """Return the backend of a setting; that of AutoImageProcessor for `auto`. Raises LoadError."""
    resample = int(processor.resample)
    if name == "torchvision" and resample not in TORCH_FILTERS:
        raise LoadError(
            f"Checkpoint {snapshot.name!r} resizes images with the filter"
            f" {Image.Resampling(resample).name.lower()}, which only the backend `pil` has; unset"
            " BLIPLINE_IMAGE_BACKEND or set it to pil."
        )
    if name == "torchvision" or (
        name == "auto" and resample in TORCH_FILTERS and is_torchvision_available()
    ):
        return "torchvision"
    return "pil"


def has_image_processor(directory: Path) -> bool:
    """Return whether a directory configures an image processor, in a file of its own or not."""
    if (directory / "preprocessor_config.json").is_file():
        return True
    try:
        return "image_processor" in json.loads((directory / "processor_config.json").read_text())
    except (OSError, ValueError, TypeError):
        return False


def read_frame(processor: Any, snapshot: Snapshot) -> Frame:
    """Return the pixels that a processor takes of an image. Raises LoadError."""
    size, crop = processor.size, processor.crop_size if processor.do_center_crop else None
    resize: tuple[int, int] | int | None
    if crop and not processor.do_resize:
        resize = None
    elif size.height and size.width:
        resize = (int(size.height), int(size.width))
    elif crop and size.shortest_edge and not size.longest_edge:
        resize = int(size.shortest_edge)
    else:
        raise LoadError(
            f"Checkpoint {snapshot.name!r} resizes images to different sizes ({dict(size)}); set"
            " `size` in preprocessor_config.json to a height and a width, or cut the centre by"
            " `do_center_crop` and `crop_size`."
        )
    if crop:
        return Frame(int(crop.height), int(crop.width), resize)
    assert isinstance(resize, tuple)
    return Frame(*resize, resize)


def fit_input(network: Any, height: int, width: int) -> None:
    """Prepare a network for images of the processor's size, if that is not the vision model's."""
    side = network.config.vision_config.image_size
    if (height, width) == (side, side):
        return
    log.info("position embeddings of %dx%d are interpolated to %dx%d", side, side, width, height)
    interpolate_positions(network.vision_model.embeddings, height, width)


class Normalizer:
    """Normalization of images that already have the size of the frame."""

    def __init__(
        self, processor: Any, snapshot: Snapshot, device: torch.device, backend: ImageBackend
    ) -> None:
        self.frame = frame = read_frame(processor, snapshot)
        self.resample = int(processor.resample)
        table = fused_pixel_table if backend == "torchvision" else pixel_table
        self.table = table(processor).to(device)
        pad = processor.pad_size if processor.do_pad else None
        #: Height and width of the model's input.
        self.shape = (int(pad.height), int(pad.width)) if pad else (frame.height, frame.width)
        if self.shape[0] < frame.height or self.shape[1] < frame.width:
            raise LoadError(
                f"Checkpoint {snapshot.name!r} pads images of {frame.width}x{frame.height} pixels"
                f" to {self.shape[1]}x{self.shape[0]}; correct `pad_size` in"
                " preprocessor_config.json."
            )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map uint8 (n, height, width, 3) of the frame to float32 (n, 3, *shape) on the device."""
        height, width = self.frame.height, self.frame.width
        if pixels.shape[1:] != (height, width, 3):
            raise ValueError(f"pixels are {tuple(pixels.shape[1:])}, not {(height, width, 3)}")
        planes = pixels.to(self.table.device).permute(3, 0, 1, 2).flatten(1).int()
        pairs = zip(self.table, planes, strict=True)
        values = [table.index_select(0, plane) for table, plane in pairs]
        images = torch.stack([plane.view(-1, height, width) for plane in values], dim=1)
        padding = (0, self.shape[1] - width, 0, self.shape[0] - height)
        return torch.nn.functional.pad(images, padding) if any(padding) else images


def pixel_table(processor: Any) -> Tensor:
    """Tabulate the processor's output for each value 0..255: float32 (3, 256).

    The processor itself computes the table, so that both are identical for all settings.
    """
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    batch = processor(
        ramp,
        do_resize=False,
        do_center_crop=False,
        do_pad=False,
        do_convert_rgb=False,
        input_data_format="channels_last",
        return_tensors="pt",
    )
    table: Tensor = batch.pixel_values.reshape(3, 256).float()
    return table


def fused_pixel_table(processor: Any) -> Tensor:
    """Tabulate the output of the torchvision backend: float32 (3, 256).

    It scales mean and deviation instead of the pixels, as `TorchvisionBackend` of transformers
    does; no class of torchvision is needed.
    """
    values = torch.arange(256, dtype=torch.float32).expand(3, 256)
    scale = float(processor.rescale_factor) if processor.do_rescale else 1.0
    if not processor.do_normalize:
        return values * scale
    mean, deviation = (
        torch.tensor(numbers) * (1.0 / scale) if processor.do_rescale else torch.tensor(numbers)
        for numbers in (processor.image_mean, processor.image_std)
    )
    return (values - mean[:, None]) / deviation[:, None]
