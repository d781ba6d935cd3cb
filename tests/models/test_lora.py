"""Named adapters: rows of different ones share a batch, and equal peft on the row alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.models.adapters import lora, save_adapter, with_adapters
from tests.models.checkpoints import SaveOnce
from tests.models.families import NETWORKS, SAMPLE, Expected, Family, save_base
from tests.models.ties import assert_equal_but_for_ties
from tests.models.traffic import serve
from worker.engine.engine import Engine
from worker.engine.request import Answer, GenerationOptions, Request
from worker.hub.resolver import resolve
from worker.models.registry import load

if TYPE_CHECKING:
    from peft import PeftConfig

#: Linear layers of the text models of all families.
TEXT = (
    r"(language_model|text_decoder|text_encoder)\..*"
    r"\.(q_proj|v_proj|out_proj|fc1|q|v|wo|k_proj|query|value|dense)"
)
#: Adapters of different ranks and layers; the second one changes the features of an image.
CONFIGS: dict[str, Callable[[], PeftConfig]] = {
    "text": lambda: lora(target_modules=TEXT),
    "all": lambda: lora(
        target_modules="all-linear", r=2, use_rslora=True, alpha_pattern={"fc1": 9}
    ),
}
GREEDY = GenerationOptions(max_new_tokens=6)
PROMPTS = {"caption": ["", "a photo of", "a red"], "vqa": ["what color is it ?", "how many ?"]}


class AdaptedFamily(Family):
    """A checkpoint with named adapters; its reference is peft with one of them."""

    def __init__(self, path: Path, network_class: Any, adapters: dict[str, Path]) -> None:
        super().__init__(path, network_class)
        self.path = path
        named = [(name, str(folder)) for name, folder in adapters.items()]
        self.model = load(resolve(str(path), adapters=named), precision="fp32", device="cpu")
        self.network = with_adapters(self.network, adapters)

    def alone(self, request: Request) -> list[Expected]:
        if not request.adapter:
            with self.network.disable_adapter():
                return super().alone(request)
        self.network.set_adapter(request.adapter)
        return super().alone(request)


@pytest.fixture(scope="module", params=SAMPLE)
def adapted(
    request: pytest.FixtureRequest,
    checkpoint: Path,
    save_once: SaveOnce,
    tmp_path_factory: pytest.TempPathFactory,
) -> AdaptedFamily:
    network_class = NETWORKS[request.param][0]
    folder = tmp_path_factory.mktemp(request.param)
    path = save_base(request.param, checkpoint, save_once)
    adapters = {
        name: save_adapter(network_class, path, folder / name, config(), seed, scale=0.15)
        for seed, (name, config) in enumerate(CONFIGS.items())
    }
    return AdaptedFamily(path, network_class, adapters)


def some_request(family: AdaptedFamily, number: int, generator: random.Random) -> Request:
    """Return a request; images of adapters that change their features have keys of their own."""
    names = ["", *CONFIGS]
    adapter = names[number % 3]
    image = generator.randrange(3)
    if adapter in family.model.adapters.of_features:
        image += 10 * names.index(adapter)
    beams = generator.choice([1, 1, 1, 3])
    options = GenerationOptions(
        max_new_tokens=generator.choice([3, 7]), num_beams=beams, output_scores=True
    )
    text = generator.choice(PROMPTS[family.task])
    request = family.request(number, image, text, options)
    request.adapter = adapter
    return request


def tokens(answer: Answer) -> list[tuple[int, ...]]:
    assert answer.error_code is None, answer.error_message
    return [sequence.tokens for sequence in answer.sequences]


def test_each_row_of_a_mixed_batch_equals_peft_on_the_row_alone(adapted: AdaptedFamily) -> None:
    generator = random.Random(6)
    requests = [some_request(adapted, number, generator) for number in range(9)]
    answers = serve(Engine(adapted.model, max_rows=12), list(requests), generator)
    actual = [tokens(answers[request.id]) for request in requests]
    expected = [[each.tokens for each in adapted.alone(request)] for request in requests]
    assert_equal_but_for_ties(
        actual,
        expected,
        adapted.network,
        lambda i: [each.tokens for each in adapted.alone(requests[i])],
        max_share=0.12,
    )
    assert {request.adapter for request in requests} == {"", *CONFIGS}
    # The adapters change answers, so that the comparison above has sense
    plain = [replace(request, adapter="") for request in requests if request.adapter]
    unchanged = [tokens(answers[r.id]) == [e.tokens for e in adapted.alone(r)] for r in plain]
    assert unchanged.count(False) > len(unchanged) / 2


@torch.inference_mode()
def test_rows_without_an_adapter_have_the_same_bits_as_without_adapters(
    adapted: AdaptedFamily,
) -> None:
    plain: Any = load(str(adapted.path), precision="fp32", device="cpu")
    frame, logits = plain.frame, []
    pixels = torch.randint(256, (3, frame.height, frame.width, 3), dtype=torch.uint8)
    requests = [adapted.request(n, n, PROMPTS[adapted.task][0], GREEDY) for n in range(3)]
    prompts = [plain.prompt(request) for request in requests]
    names: dict[str, list[str]] = {"none": [""] * 3, "mixed": ["", "text", ""]}
    for model, selected in ((plain, "none"), (adapted.model, "none"), (adapted.model, "mixed")):
        features = model.encode(pixels)
        slots = model.decoder.new_slots(3)
        with model.adapters.select(names[selected]):
            inputs = model.condition(features, prompts)
            first = model.decoder.prefill(inputs, prompts, slots)
            slots.tokens[:3] = first.argmax(-1)
            logits.append([features, first, model.decoder.decode(slots, 0, 3)])
    for expected, same, mixed in zip(*logits, strict=True):
        assert torch.equal(expected, same)
        assert torch.equal(expected[::2], mixed[::2])
    assert not torch.equal(logits[0][1][1], logits[2][1][1])
