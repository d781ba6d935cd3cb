"""InstructBLIP with LLaMA: a row in a mixed batch equals `generate` on the row alone.

The reference is independent of the worker: the processor and `generate`, one row at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BlipImageProcessorPil,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
)

from tests.models.llama_checkpoints import save_instructblip_llama
from tests.models.t5_checkpoints import (
    QUERIES,
)
from tests.models.ties import assert_equal_but_for_ties
from tests.models.traffic import (
    picture,
    serve,
    some_beams,
    some_options,
    some_sampled_beams,
)
from worker.engine.engine import Engine
from worker.engine.request import GenerationOptions, Request
from worker.engine.selfcheck import check
from worker.models.llama import LlamaLanguage
from worker.models.memory import estimate
from worker.models.registry import load

IMAGES = 6
TEXTS = {
    "caption": ["", " a photo of", "painting of a red"],
    "vqa": ["how many?", "is there a red circle on the left or above it, or a star?"],
    "chat": ["what color is it?"],
}
HISTORY = (("how many?", "two"),)

Plan = tuple[int, str, str, dict[str, Any]]
Options = Callable[[random.Random], dict[str, Any]]


@dataclass
class Pair:
    """The worker's model, and transformers' own with its processor."""

    path: Path
    model: Any
    network: Any
    processor: Any

    def expect(self, plan: Plan) -> tuple[str, int]:
        """Return transformers' answer and its number of tokens."""
        image, task, text, options = plan
        seed = (how := dict(options)).pop("seed", None)
        if seed is not None:
            torch.manual_seed(seed)
        words = text or "A short image caption."
        if task == "chat":
            turns = "".join(f"Question: {turn} Answer: {answer}. " for turn, answer in HISTORY)
            words = f"{turns}Question: {text} Answer:"
        inputs = self.processor(images=picture(image), text=words, return_tensors="pt")
        row = self.network.generate(**inputs, do_sample=seed is not None, **how)[0]
        width = inputs["input_ids"].shape[1]
        begin = QUERIES if task == "caption" and text else width
        decoded = self.processor.tokenizer.decode(row[begin:], skip_special_tokens=True)
        return decoded.strip(), len(row) - width


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    path = tmp_path_factory.mktemp("instruct_llama")
    save_instructblip_llama(path)
    processor = InstructBlipProcessor(
        BlipImageProcessorPil.from_pretrained(path),
        AutoTokenizer.from_pretrained(path),
        AutoTokenizer.from_pretrained(path, subfolder="qformer_tokenizer"),
        num_query_tokens=QUERIES,
    )
    network = InstructBlipForConditionalGeneration.from_pretrained(path).eval()
    return Pair(path, load(str(path), precision="fp32", device="cpu"), network, processor)


def some_plan(generator: random.Random, options: Options) -> Plan:
    task = generator.choice(sorted(TEXTS))
    return generator.randrange(IMAGES), task, generator.choice(TEXTS[task]), options(generator)


def request(number: int, plan: Plan) -> Request:
    image, task, text, options = plan
    history = HISTORY if task == "chat" else ()
    pixels, how = picture(image).tobytes(), GenerationOptions(**options)
    return Request(number, task, f"image-{image}", pixels, text, how, history=history)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("options", "rows"), [(some_options, 20), (some_beams, 8), (some_sampled_beams, 6)]
)
def test_every_row_in_a_mixed_batch_equals_the_row_alone(
    pair: Pair, options: Options, rows: int
) -> None:
    generator = random.Random(6)
    plans = [some_plan(generator, options) for _ in range(rows)]
    requests = [request(number, plan) for number, plan in enumerate(plans)]
    answers = serve(Engine(pair.model, max_rows=12, reserved_rows=2), requests, generator)
    got = [(answers[number].text, answers[number].tokens) for number in range(rows)]
    expected = [pair.expect(plan) for plan in plans]
    assert_equal_but_for_ties(got, expected, pair.network, lambda i: pair.expect(plans[i]), 0.1)
    assert len({text for text, _ in expected}) > rows / 3


def test_the_model_is_decoded_in_flight_and_passes_the_self_check(pair: Pair) -> None:
    engine = Engine(pair.model, max_rows=4)
    check(engine)
    assert engine.decoding is not None
    assert isinstance(pair.model.decoder, LlamaLanguage)
    assert pair.model.tasks == {"caption", "vqa", "chat"}


def test_its_memory_is_estimated_as_its_slots_are_allocated(pair: Pair) -> None:
    memory = estimate(pair.network.config, "fp32", torch.device("cpu"))
    slots = pair.model.decoder.new_slots(1)
    assert memory.row_bytes == slots.token_bytes * memory.row_tokens
