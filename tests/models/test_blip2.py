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

from worker.engine.errors import LoadError, PromptTooLong
from worker.engine.model import Generator
from worker.engine.request import GenerationOptions, Request
from worker.hub.resolver import resolve
from worker.models.checkpoint import read_config
from worker.models.pixels import pixel_table
from worker.models.registry import default_precision, load


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def edit(path: Path, change: dict[str, Any]) -> None:
    settings = json.loads(path.read_text())
    for dotted, value in change.items():
        *parents, last = dotted.split(".")
        section = settings
        for parent in parents:
            section = section[parent]
        section[last] = value
    path.write_text(json.dumps(settings))


def ask(task: str, text: str, **fields: Any) -> Request:
    return Request("1", task, "image", None, text, **fields)


def start(model: Any, task: str, text: str) -> list[int]:
    ids: list[int] = model.prompt(ask(task, text)).start
    return ids


def answer_text(model: Any, task: str, text: str, new: list[int]) -> str:
    request = ask(task, text)
    answer: str = model.text(request, model.prompt(request), new)
    return answer


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
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("task", "text"), [("caption", " a photo of"), ("vqa", "how many?")])
def test_prompts_have_the_layout_of_the_processor(
    checkpoint: Path, model: Generator, task: str, text: str
) -> None:
    processor = Blip2Processor(
        BlipImageProcessorPil.from_pretrained(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint),
        num_query_tokens=4,
    )
    words = "Question: how many? Answer:" if task == "vqa" else text
    assert start(model, task, text) == processor(images=noise(16), text=words).input_ids[0]


def test_a_caption_without_a_prompt_starts_from_the_image_and_bos(model: Generator) -> None:
    image_token = start(model, "caption", "")[0]
    assert start(model, "caption", "") == [image_token] * 4 + [2]


@pytest.mark.parametrize(
    "text", ["what is </s> this?", "an <image> of <image>", "<pad> {question}"]
)
def test_user_text_never_becomes_a_control_token(model: Any, text: str) -> None:
    ids = start(model, "vqa", text)
    special = set(model.decoder.tokenizer.all_special_ids) | {ids[0]}
    assert special.isdisjoint(ids[5:])
    assert model.decoder.tokenizer.decode(ids[5:]) == f"Question: {text} Answer:"


def test_texts_have_no_special_tokens_and_no_outer_spaces(model: Any) -> None:
    new = [*model.decoder.tokenizer(" two").input_ids, 1, 2]
    assert answer_text(model, "vqa", "how many?", new) == "two"
    assert answer_text(model, "caption", " a photo of", new) == "a photo of two"


def test_a_dialogue_is_its_turns_and_then_the_question(model: Any) -> None:
    turns = (("what is it?", "a circle"), ("what color?", "red"))
    request = ask("chat", "where?", history=turns)
    assert model.network.config.num_query_tokens == 4
    assert model.decoder.tokenizer.decode(model.prompt(request).start[5:]) == (
        "Question: what is it? Answer: a circle. Question: what color? Answer: red."
        " Question: where? Answer:"
    )


def test_a_dialogue_that_is_too_long_loses_its_oldest_turns(model: Any) -> None:
    turns = tuple((f"question {number}?", "yes") for number in range(40))
    request = ask("chat", "where?", history=turns, options=GenerationOptions(max_new_tokens=30))
    prompt = model.prompt(request)
    text = model.decoder.tokenizer.decode(prompt.start[5:])
    assert text.endswith("question 39? Answer: yes. Question: where? Answer:")
    assert "question 0?" not in text
    # As many turns as fit, and not fewer
    longer = model.decoder.text_ids(f"Question: question 39? Answer: yes. {text}")
    assert len(prompt.start) + 30 <= model.decoder.max_length < 4 + len(longer) + 30


def test_a_question_that_is_too_long_by_itself_is_rejected(model: Any) -> None:
    with pytest.raises(PromptTooLong):
        model.prompt(ask("chat", "why " * 200, history=(("a", "b"),)))


def test_another_question_template_may_be_set(checkpoint: Path) -> None:
    model: Any = load(str(checkpoint), device="cpu", vqa_template="Q: {question} A:")
    assert model.decoder.tokenizer.decode(start(model, "vqa", "why?")[5:]) == "Q: why? A:"
    with pytest.raises(LoadError, match="question"):
        load(str(checkpoint), vqa_template="What is it?")


def test_a_processor_without_query_tokens_is_no_obstacle(copy: Path, model: Generator) -> None:
    # Given an older checkpoint, whose processor would silently omit the image
    edit(copy / "processor_config.json", {"num_query_tokens": None})
    edit(copy / "config.json", {"image_token_index": None})
    assert start(load(str(copy), device="cpu"), "caption", "") == start(model, "caption", "")


def test_the_revision_follows_weights_and_template_only(
    checkpoint: Path, copy: Path, model: Any
) -> None:
    def revision(path: Path, **how: Any) -> str:
        return load(str(path), device="cpu", **how).revision

    assert revision(copy) == model.revision
    assert revision(checkpoint, vqa_template="{question}") != model.revision
    assert revision(checkpoint, precision="bf16") != model.revision
    with torch.no_grad():
        changed: Any = load(str(checkpoint), device="cpu")
        changed.network.language_projection.bias += 0.01
    changed.network.save_pretrained(copy)
    assert revision(copy) != model.revision


def test_the_revision_follows_the_image_processor(copy: Path, model: Any) -> None:
    edit(copy / "processor_config.json", {"image_processor.image_mean": [0.4, 0.5, 0.6]})
    assert load(str(copy), device="cpu").revision != model.revision


def test_the_q_former_stays_in_full_precision(checkpoint: Path) -> None:
    model: Any = load(str(checkpoint), precision="fp16", device="cpu")
    dtypes = {weight.dtype for weight in model.network.qformer.parameters()}
    assert dtypes == {torch.float32}
    assert model.decoder.new_slots(1).buffers.dtype == torch.float16


@pytest.mark.parametrize(
    ("sentence", "arguments"),
    [
        ("does not exist", {"model": "/no/such/place"}),
        ("Unknown precision", {"precision": "fp8"}),
        ("Unknown device", {"device": "abacus"}),
        ("not supported", {"device": "meta"}),
    ],
)
def test_a_failed_load_is_reported_in_one_sentence(
    checkpoint: Path, sentence: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(LoadError, match=sentence) as raised:
        load(**{"model": str(checkpoint), "device": "cpu"} | arguments)
    assert "\n" not in str(raised.value)


def test_a_configuration_without_a_necessary_number_is_one_sentence(copy: Path) -> None:
    edit(copy / "config.json", {"text_config.bos_token_id": None})
    with pytest.raises(LoadError, match="complete checkpoint") as raised:
        load(str(copy), device="cpu")
    assert "\n" not in str(raised.value)


def test_the_automatic_precision_is_exact_on_a_cpu_and_safe_on_a_gpu(copy: Path) -> None:
    config = read_config(resolve(str(copy)))
    assert default_precision(config, torch.device("cpu")) == "fp32"
    assert default_precision(config, torch.device("cuda")) == "fp16"
    edit(copy / "config.json", {"text_config.model_type": "t5"})
    assert default_precision(read_config(resolve(str(copy))), torch.device("cuda")) == "bf16"


def test_an_empty_directory_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="complete checkpoint"):
        load(str(tmp_path))


def test_an_unsupported_family_is_rejected_with_the_supported_ones(copy: Path) -> None:
    edit(copy / "config.json", {"architectures": ["Blip2Model"]})
    with pytest.raises(
        LoadError, match=r"is Blip2Model of type blip-2 with opt, which .* with opt .*opt-2"
    ):
        load(str(copy))


def test_a_damaged_weights_file_is_rejected(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(LoadError, match="complete checkpoint"):
        load(str(copy), device="cpu")


def test_missing_weights_are_rejected(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["language_projection.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"incomplete.*language_projection"):
        load(str(copy), device="cpu")
