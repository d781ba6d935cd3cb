"""BLIP-2 with OPT: a row in a mixed batch equals `generate` on the row alone.

The reference is independent of the worker: Blip2Processor and `generate`, one row at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
)

from tests.models.ties import assert_equal_but_for_ties
from tests.models.traffic import picture, row_counts, serve, some_options, some_sampled_beams
from worker.engine.engine import Engine
from worker.engine.model import Generator
from worker.engine.request import GenerationOptions, Request

IMAGES = 10
QUESTIONS = [
    "how many?",
    "what color is the circle?",
    "is there a red circle on the left or above?",
]
PROMPTS = ["", "", " a photo of", "a red circle and next to it, if anything,"]


class Reference:
    """Plain transformers, one row at a time."""

    def __init__(self, path: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.processor = Blip2Processor(
            BlipImageProcessorPil.from_pretrained(path), self.tokenizer, num_query_tokens=4
        )
        self.network = Blip2ForConditionalGeneration.from_pretrained(path).eval()

    def answer(
        self, image: Image.Image, task: str, text: str, how: dict[str, Any]
    ) -> tuple[str, int]:
        how = dict(how)
        seed = how.pop("seed", None)
        if seed is not None:
            torch.manual_seed(seed)
        words = f"Question: {text} Answer:" if task == "vqa" else text
        inputs = self.processor(images=image, text=words or None, return_tensors="pt")
        prompt = inputs["input_ids"].shape[1] if words else 4 + 1
        row = self.network.generate(**inputs, do_sample=seed is not None, **how)[0]
        shown = row[prompt:] if task == "vqa" else row
        decoded = self.tokenizer.decode(shown, skip_special_tokens=True)
        return str(decoded).strip(), len(row) - prompt


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}])
def test_a_row_may_use_every_position_as_its_last_token_needs_none(
    checkpoint: Path, model: Generator, how: dict[str, Any]
) -> None:
    reference = Reference(checkpoint)
    limit = reference.network.config.text_config.max_position_embeddings
    texts = ["", " a", " a photo of" * 10, " red" * (limit - 6), " red" * (limit - 5)]
    words = [len(reference.tokenizer(text).input_ids) if text else 1 for text in texts]
    options = [
        {"max_new_tokens": new, "min_new_tokens": new, **how}
        for new in (limit + 1 - 4 - count for count in words)
    ]
    rows = list(zip(texts, options, strict=True))
    requests = [
        Request(n, "caption", f"{n}", picture(n).tobytes(), text, GenerationOptions(**row))
        for n, (text, row) in enumerate(rows)
    ]
    answers = serve(Engine(model, max_rows=3), requests, random.Random(1))

    def alone(number: int) -> tuple[str, int]:
        text, row = rows[number]
        return reference.answer(picture(number), "caption", text, row)

    got = [(answers[number].text, answers[number].tokens) for number in range(len(rows))]
    expected = [alone(number) for number in range(len(rows))]
    assert [tokens for _, tokens in expected] == [row["max_new_tokens"] for row in options]
    assert_equal_but_for_ties(got, expected, reference.network, alone, max_share=1)
    # One token more is too many
    longer = Request(9, "caption", "9", picture(9).tobytes(), texts[2])
    longer.options = GenerationOptions(max_new_tokens=options[2]["max_new_tokens"] + 1)
    answer = serve(Engine(model, max_rows=3), [longer], random.Random(1))[9]
    assert answer.error_code == "prompt_too_long"


def compare(
    checkpoint: Path,
    model: Generator,
    rows: int,
    options: Callable[[random.Random], dict[str, Any]],
) -> list[tuple[str, int]]:
    """Serve random rows together, compare each with the row alone, and return the latter."""
    generator = random.Random(5)
    pictures = [picture(number) for number in range(IMAGES)]
    plans: list[tuple[int, str, str, dict[str, Any]]] = []
    for _ in range(rows):
        task = generator.choice(["caption", "vqa"])
        text = generator.choice(QUESTIONS if task == "vqa" else PROMPTS)
        plans.append((generator.randrange(IMAGES), task, text, options(generator)))
    requests = [
        Request(
            id=number,
            task=task,
            image_hash=f"image-{image}",
            pixels=pictures[image].tobytes(),
            text=text,
            options=GenerationOptions(**how),
            interactive=generator.random() < 0.2,
        )
        for number, (image, task, text, how) in enumerate(plans)
    ]

    answers = serve(Engine(model, max_rows=12, reserved_rows=2), requests, generator)

    reference = Reference(checkpoint)

    def alone(number: int) -> tuple[str, int]:
        image, task, text, how = plans[number]
        return reference.answer(pictures[image], task, text, how)

    expected = [alone(number) for number in range(rows)]
    actual = [(answers[number].text, answers[number].tokens) for number in range(rows)]
    assert_equal_but_for_ties(actual, expected, reference.network, alone)
    return expected


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rows", row_counts(20, 84))
def test_every_row_in_a_mixed_batch_equals_the_row_alone(
    checkpoint: Path, model: Generator, rows: int
) -> None:
    expected = compare(checkpoint, model, rows, some_options)
    # The rows are diverse: texts differ, and rows end at many lengths.
    assert len({text for text, _ in expected}) > rows / 3
    assert len({tokens for _, tokens in expected}) >= 7


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rows", row_counts(6, 24))
def test_sampled_beams_equal_those_of_the_row_alone_after_its_seed(
    checkpoint: Path, model: Generator, rows: int
) -> None:
    expected = compare(checkpoint, model, rows, some_sampled_beams)
    assert len({text for text, _ in expected}) > rows / 2
