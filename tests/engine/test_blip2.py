from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, Blip2Processor, BlipImageProcessorPil

from worker.models import LoadError, Model, load
from worker.models.blip2 import pixel_table


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def edit(path: Path, change: dict[str, Any]) -> None:
    settings = json.loads(path.read_text())
    for dotted, value in change.items():
        *parents, last = dotted.split(".")
        place = settings
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(json.dumps(settings))


def noise(size: int) -> Image.Image:
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (size, size, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
        {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3]},
    ],
)
def test_the_pixel_table_equals_the_processor_bit_for_bit(settings: dict[str, Any]) -> None:
    processor = BlipImageProcessorPil(size={"height": 32, "width": 32}, **settings)
    image = noise(32)
    expected = processor(image, return_tensors="pt").pixel_values[0].float()
    table, pixels = pixel_table(processor), torch.from_numpy(np.array(image)).long()
    assert torch.equal(torch.stack([table[c][pixels[:, :, c]] for c in range(3)]), expected)


def test_features_equal_those_of_the_processors_pixels(checkpoint: Path, model: Any) -> None:
    image = noise(16)
    pixels = BlipImageProcessorPil.from_pretrained(checkpoint)(image, return_tensors="pt")
    with torch.inference_mode():
        expected = model.network.get_image_features(**pixels, return_dict=True).pooler_output
    features = model.encode(torch.from_numpy(np.array(image))[None])
    assert features.shape == (1, 4, 32)
    assert torch.equal(features, expected)


@pytest.mark.parametrize(("task", "text"), [("caption", " a photo of"), ("vqa", "how many?")])
def test_prompts_have_the_layout_of_the_processor(
    checkpoint: Path, model: Model, task: str, text: str
) -> None:
    processor = Blip2Processor(
        BlipImageProcessorPil.from_pretrained(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint),
        num_query_tokens=4,
    )
    words = "Question: how many? Answer:" if task == "vqa" else text
    assert model.prompt(task, text) == processor(images=noise(16), text=words).input_ids[0]


def test_a_caption_without_a_prompt_starts_from_the_image_and_bos(model: Model) -> None:
    image_token = model.prompt("caption", "")[0]
    assert model.prompt("caption", "") == [image_token] * 4 + [2]


@pytest.mark.parametrize(
    "text", ["what is </s> this?", "an <image> of <image>", "<pad> {question}"]
)
def test_what_a_user_writes_is_text_even_if_it_looks_like_a_control_token(
    model: Any, text: str
) -> None:
    ids = model.prompt("vqa", text)
    special = set(model.tokenizer.all_special_ids) | {ids[0]}
    assert special.isdisjoint(ids[5:])
    assert model.tokenizer.decode(ids[5:]) == f"Question: {text} Answer:"


def test_texts_have_no_special_tokens_and_no_outer_spaces(model: Any) -> None:
    new = [*model.tokenizer(" two").input_ids, 1, 2]
    prompt = model.prompt("vqa", "how many?")
    assert model.text("vqa", prompt, new) == "two"
    assert model.text("caption", model.prompt("caption", " a photo of"), new) == "a photo of two"


def test_another_question_template_may_be_set(checkpoint: Path) -> None:
    model: Any = load(str(checkpoint), device="cpu", vqa_template="Q: {question} A:")
    assert model.tokenizer.decode(model.prompt("vqa", "why?")[5:]) == "Q: why? A:"
    with pytest.raises(LoadError, match="question"):
        load(str(checkpoint), vqa_template="What is it?")


def test_a_processor_without_query_tokens_is_no_obstacle(copy: Path, model: Model) -> None:
    # Given an older checkpoint, whose processor would silently leave the image out
    edit(copy / "processor_config.json", {"num_query_tokens": None})
    edit(copy / "config.json", {"image_token_index": None})
    assert load(str(copy), device="cpu").prompt("caption", "") == model.prompt("caption", "")


def test_the_revision_follows_weights_and_template_and_nothing_else(
    checkpoint: Path, copy: Path, model: Any
) -> None:
    def revision(path: Path, **how: str) -> str:
        return load(str(path), device="cpu", **how).revision

    assert revision(copy) == model.revision
    assert revision(checkpoint, vqa_template="{question}") != model.revision
    assert revision(checkpoint, precision="bf16") != model.revision
    with torch.no_grad():
        changed: Any = load(str(checkpoint), device="cpu")
        changed.network.language_projection.bias += 0.01
    changed.network.save_pretrained(copy)
    assert revision(copy) != model.revision


def test_the_q_former_stays_in_full_precision(checkpoint: Path) -> None:
    model: Any = load(str(checkpoint), precision="fp16", device="cpu")
    dtypes = {weight.dtype for weight in model.network.qformer.parameters()}
    assert dtypes == {torch.float32}
    assert model.new_slots(1).buffers.dtype == torch.float16


@pytest.mark.parametrize(
    ("sentence", "arguments"),
    [
        ("does not exist", {"model": "/no/such/place"}),
        ("not yet available", {"precision": "int8"}),
        ("not yet available", {"precision": "int4"}),
        ("Unknown precision", {"precision": "fp8"}),
        ("Unknown device", {"device": "abacus"}),
        ("not supported", {"device": "meta"}),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_sentence(
    checkpoint: Path, sentence: str, arguments: dict[str, str]
) -> None:
    with pytest.raises(LoadError, match=sentence) as refusal:
        load(**{"model": str(checkpoint), "device": "cpu"} | arguments)
    assert "\n" not in str(refusal.value)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="complete checkpoint"):
        load(str(tmp_path))


def test_another_family_is_refused_and_told_what_works(copy: Path) -> None:
    edit(copy / "config.json", {"text_config.model_type": "t5"})
    with pytest.raises(LoadError, match=r"blip-2 with t5.*blip-2 with opt"):
        load(str(copy))


def test_a_processor_that_contradicts_the_model_is_refused(copy: Path) -> None:
    edit(copy / "processor_config.json", {"image_processor.size": {"height": 24, "width": 24}})
    with pytest.raises(LoadError, match="24x24"):
        load(str(copy))


def test_a_damaged_weights_file_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(LoadError, match="complete checkpoint"):
        load(str(copy), device="cpu")


def test_missing_weights_are_refused_rather_than_made_up(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["language_projection.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"incomplete.*language_projection"):
        load(str(copy), device="cpu")
