"""Image backends: the pixels are those of transformers' processor, with Pillow or torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BlipImageProcessorPil

from demo.stack import ROOT
from tests.models import torchvision_reference
from tests.models.blip_checkpoints import save_caption
from tests.models.processors import PROCESSORS, SIZES, decode, noise
from worker.engine.errors import LoadError
from worker.models import pixels
from worker.models.registry import load

#: Inputs of the demo model, of BLIP-2 and of BLIP, also normalized in other ways.
SQUARES: dict[str, dict[str, Any]] = {
    **{str(side): {"size": {"height": side, "width": side}} for side in (64, 224, 384)},
    "not normalized": {"do_normalize": False},
    "not rescaled": {"do_rescale": False},
    "raw": {"do_rescale": False, "do_normalize": False},
    "mean and deviation": {"image_mean": [0.1, 0.5, 0.9], "image_std": [0.3, 0.2, 1.0]},
}
SETTINGS: dict[str, dict[str, Any]] = {**PROCESSORS, **SQUARES}


def images(name: str) -> list[Image.Image]:
    """Return images for a processor: noise, which shows every difference, and real ones."""
    drawn = [noise(*size) for size in SIZES]
    if name in PROCESSORS:
        return drawn
    files = sorted((ROOT / "demo" / "images").iterdir())[:3]
    sizes = [(32, 32), (640, 480), (1, 1), (1, 70), (70, 1), (5, 3000), (1000, 4)]
    return [*drawn, *(noise(*size) for size in sizes), *(Image.open(file) for file in files)]


@pytest.fixture(scope="module")
def expected() -> dict[str, list[np.ndarray[Any, Any]]]:
    cases = [(name, image) for name in SETTINGS for image in images(name)]
    values = torchvision_reference.reference([(SETTINGS[n], image) for n, image in cases])
    by_name: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in SETTINGS}
    for (name, _), value in zip(cases, values, strict=True):
        by_name[name].append(value)
    return by_name


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    save_caption(path)
    return path


def open_with(checkpoint: Path, settings: dict[str, Any], backend: str) -> Any:
    processor: Any = BlipImageProcessorPil(**settings)
    processor.save_pretrained(checkpoint)
    (checkpoint / "processor_config.json").unlink(missing_ok=True)
    return load(str(checkpoint), device="cpu", image_backend=backend)


def normalized(model: Any, image: Image.Image) -> np.ndarray[Any, Any]:
    data = bytearray(decode(model, image))
    shape = (1, model.frame.height, model.frame.width, 3)
    values: np.ndarray[Any, Any] = model.normalize(
        torch.frombuffer(data, dtype=torch.uint8).view(shape)
    ).numpy()
    return values


@pytest.mark.parametrize("name", SETTINGS)
def test_pixels_equal_those_of_the_torchvision_processor_bit_for_bit(
    checkpoint: Path, expected: dict[str, list[np.ndarray[Any, Any]]], name: str
) -> None:
    model = open_with(checkpoint, SETTINGS[name], "torchvision")
    assert model.image_backend == "torchvision"
    for image, values in zip(images(name), expected[name], strict=True):
        np.testing.assert_array_equal(normalized(model, image), values)


@pytest.mark.parametrize("name", SQUARES)
def test_pixels_equal_those_of_the_pillow_processor_bit_for_bit(
    checkpoint: Path, name: str
) -> None:
    model = open_with(checkpoint, SETTINGS[name], "pil")
    processor: Any = BlipImageProcessorPil(**SETTINGS[name])
    for image in images(name):
        values = processor(image, return_tensors="np").pixel_values
        np.testing.assert_array_equal(normalized(model, image), values.astype(np.float32))


def test_the_backends_differ(checkpoint: Path) -> None:
    image = noise(640, 480)
    by_pillow, by_torch = (
        normalized(open_with(checkpoint, SQUARES["64"], backend), image)
        for backend in ("pil", "torchvision")
    )
    assert (by_pillow != by_torch).any()


def test_auto_is_torchvision_where_it_is_installed(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_with(checkpoint, SQUARES["64"], "auto").image_backend == "pil"
    monkeypatch.setattr(pixels, "is_torchvision_available", lambda: True)
    bicubic = open_with(checkpoint, SQUARES["64"], "auto")
    lanczos = open_with(checkpoint, {**SQUARES["64"], "resample": 1}, "auto")
    assert (bicubic.image_backend, lanczos.image_backend) == ("torchvision", "pil")
    assert len({bicubic.revision, lanczos.revision}) == 2


def test_a_filter_that_only_pillow_has_is_refused(checkpoint: Path) -> None:
    with pytest.raises(LoadError, match="filter lanczos, which only the backend `pil` has; unset"):
        open_with(checkpoint, {**SQUARES["64"], "resample": 1}, "torchvision")
