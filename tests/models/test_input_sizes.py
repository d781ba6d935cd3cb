"""Images of other sizes than the vision model's: as transformers with interpolate_pos_encoding."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Blip2ForConditionalGeneration,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
)

from tests.models.blip_checkpoints import IMAGE_SIZE, Reference, save_caption
from tests.models.processors import CROP, PROCESSORS, SIZES, decode, noise
from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.model import as_generator
from worker.engine.request import GenerationOptions, Request
from worker.engine.selfcheck import check
from worker.engine.warmup import warm_up
from worker.models.registry import load


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    save_caption(path)
    (path / "processor_config.json").unlink()
    return path


@pytest.fixture
def path(base: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint without a processor."""
    for file in base.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def as_tensor(model: Any, pixels: bytes) -> torch.Tensor:
    tensor = torch.frombuffer(bytearray(pixels), dtype=torch.uint8)
    return tensor.view(1, model.frame.height, model.frame.width, 3)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_features_and_answers_are_those_of_interpolated_positions(
    path: Path, processor: str
) -> None:
    settings: Any = PROCESSORS[processor]
    BlipImageProcessorPil(**settings).save_pretrained(path)
    reference = Reference(BlipForConditionalGeneration, path)
    generator: Any = as_generator(load(str(path), device="cpu"))
    engine, answers, expected = Engine(generator, max_rows=4), {}, {}
    for size in SIZES:
        image = noise(*size)
        pixels = decode(generator, image)
        options = GenerationOptions(max_new_tokens=6)
        engine.add(Request(str(size), "caption", str(size), pixels, "", options=options))
        values = reference.processor.image_processor(image, return_tensors="pt").pixel_values
        shape = (1, generator.frame.height, generator.frame.width, 3)
        normalized = generator.normalize(
            torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(shape)
        )
        assert torch.equal(normalized, values)
        with torch.inference_mode():
            states = reference.network.vision_model(values, interpolate_pos_encoding=True)
        torch.testing.assert_close(generator.tower(values), states.last_hidden_state)
        how = {"max_new_tokens": 6, "interpolate_pos_encoding": True}
        expected[str(size)] = reference.answer(image, "", how)[0]
    while not engine.idle:
        answers.update({answer.id: answer.text for answer in engine.step()})
    assert answers == expected


def test_a_model_with_a_wide_input_is_warmed_up_and_checked(path: Path) -> None:
    settings: Any = PROCESSORS["wide"]
    BlipImageProcessorPil(**settings).save_pretrained(path)
    engine = Engine(as_generator(load(str(path), device="cpu")), max_rows=2)
    warm_up(engine)
    check(engine)
    engine.add(Request("1", "caption", "image", bytes(24 * 56 * 3 - 1), ""))
    (failed,) = engine.step()
    assert failed.error_message == "Pixels must be 56x24 RGB, one byte each."


def test_a_blip2_reads_other_sizes_as_transformers(checkpoint: Path, tmp_path: Path) -> None:
    for file in checkpoint.iterdir():
        if file.name != "processor_config.json":
            (tmp_path / file.name).symlink_to(file)
    BlipImageProcessorPil(size={"height": 24, "width": 40}).save_pretrained(tmp_path)
    image = noise(50, 30)
    values = BlipImageProcessorPil.from_pretrained(tmp_path)(image, return_tensors="pt")
    network = Blip2ForConditionalGeneration.from_pretrained(checkpoint).eval()
    with torch.inference_mode():
        expected = network.get_image_features(
            **values, interpolate_pos_encoding=True, return_dict=True
        ).pooler_output
    for precision in ("fp32", "bf16"):
        model: Any = load(str(tmp_path), precision, "cpu")
        features = model.encode(as_tensor(model, decode(model, image))).float()
        tolerance = 1e-5 if precision == "fp32" else 0.1
        assert (features - expected).norm() < tolerance * expected.norm()


def test_without_a_processor_the_default_of_the_family_is_used_with_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model: Any = load(str(path), device="cpu")
    assert "has no image processor (preprocessor_config.json)" in caplog.text
    image = noise(60, 50)
    default: Any = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    normalized = model.normalize(as_tensor(model, decode(model, image)))
    assert torch.equal(normalized, default(image, return_tensors="pt").pixel_values)
    # An older processor's file without the image processor's settings
    (path / "processor_config.json").write_text('{"processor_class": "BlipProcessor"}')
    caplog.set_level(logging.WARNING)
    caplog.clear()
    again: Any = load(str(path), device="cpu")
    assert again.frame == model.frame
    assert "has no image processor" in caplog.text


#: Settings without one size of the model's input, and part of the sentence.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a shorter side": (
        {"size": {"shortest_edge": 32}},
        "resizes images to different sizes ({'shortest_edge': 32})",
    ),
    "bounds": (
        {**CROP, "size": {"max_height": 32, "max_width": 32}},
        "resizes images to different sizes",
    ),
    "too little padding": (
        {**PROCESSORS["padded"], "pad_size": {"height": 32, "width": 20}},
        "pads images of 26x29 pixels to 20x32; correct `pad_size`",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_processor_without_one_size_is_refused(path: Path, case: str) -> None:
    settings, part = WRONG[case]
    processor: Any = BlipImageProcessorPil
    processor(**settings).save_pretrained(path)
    with pytest.raises(LoadError) as raised:
        load(str(path), device="cpu")
    assert part in str(raised.value)
