"""Resizing of RGB images: by Pillow, or by torch exactly as torchvision does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from PIL import Image

from worker.engine.frame import TORCH_FILTERS, ImageBackend

#: A function of an RGB image, its new width and height, and a filter.
Resize = Callable[[Image.Image, tuple[int, int], Image.Resampling], Image.Image]

#: Bytes for each pixel of the original that the torchvision backend needs besides Pillow's: the
#: pieces of a copy, and the copy.
TORCH_BYTES: Final = 6


def resize_function(backend: ImageBackend) -> Resize:
    """Return the function that resizes as a backend does."""
    return _resize_with_torch if backend == "torchvision" else _resize_with_pillow


def load_torch() -> None:
    """Import torch for the threads of a consumer, each of which computes with one core."""
    import torch

    torch.set_num_threads(1)


def _resize_with_pillow(
    image: Image.Image, size: tuple[int, int], resample: Image.Resampling
) -> Image.Image:
    return image.resize(size, resample)


def _resize_with_torch(
    image: Image.Image, size: tuple[int, int], resample: Image.Resampling
) -> Image.Image:
    """Resize by the function that torchvision calls; several times as fast as Pillow's.

    Its weights have fewer bits, so that some values differ from Pillow's by 1 or 2.
    """
    if size == image.size:
        return image
    # A late import, which consumers with Pillow's backend need not pay for.
    import numpy as np
    import torch

    # Channels last, as Pillow has them: the vectorized function reads both orders.
    planes = torch.utils.dlpack.from_dlpack(np.asarray(image)).permute(2, 0, 1).unsqueeze(0)
    resized: Any = torch.nn.functional.interpolate(
        planes, size=size[::-1], mode=TORCH_FILTERS[resample], antialias=True
    )
    return Image.fromarray(resized[0].permute(1, 2, 0).contiguous().numpy())
