"""The lane of one-pass work, with a model that only counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from worker.engine.engine import Engine
from worker.engine.errors import PromptTooLong
from worker.engine.frame import Frame, ImageBackend
from worker.engine.matching import PAIRS
from worker.engine.request import Answer, Request
from worker.engine.row_adapters import RowAdapters


class Counting:
    """P(match) is the text's length over 1000; an image of 255 has no finite numbers."""

    name, revision, commit, precision = "counting", "1", "", "fp32"
    tasks = frozenset({"match", "embed"})
    image_size, resample, device = 1, 3, torch.device("cpu")
    frame, keeps_proportions, adapters = Frame.square(1), False, RowAdapters()
    image_backend: ImageBackend = "pil"

    def __init__(self) -> None:
        self.passes: list[int] = []

    def encode(self, pixels: Tensor) -> Tensor:
        features = pixels.reshape(len(pixels), 1, 3).float()
        return features.masked_fill(features == 255, torch.nan)

    def tokens(self, text: str) -> list[int]:
        if len(text) > 500:
            raise PromptTooLong("Too long.")
        return list(text.encode())

    def match(self, features: Tensor, texts: Any) -> tuple[Tensor, Tensor]:
        self.passes.append(len(texts))
        lengths = torch.tensor([len(text) / 1000 for text in texts])
        return lengths + 0 * features[:, 0, 0], features[:, 0, 0]

    def embed_images(self, features: Tensor) -> Tensor:
        return features[:, 0]

    def embed_texts(self, texts: Any) -> Tensor:
        return torch.tensor([[float(len(text))] for text in texts])


@pytest.fixture
def model() -> Counting:
    return Counting()


@pytest.fixture
def engine(model: Counting) -> Engine:
    return Engine(None, model)


def match(number: int, texts: list[str], shade: int = 7, **how: Any) -> Request:
    pixels = bytes([shade] * 3)
    return Request(number, "match", f"image-{shade}", pixels, texts=tuple(texts), **how)


def run(engine: Engine) -> dict[Any, Answer]:
    answers: dict[Any, Answer] = {}
    for _ in range(200):
        if engine.idle:
            return answers
        answers.update({answer.id: answer for answer in engine.step()})
    raise AssertionError("the engine never became idle")


def test_scores_come_in_the_order_of_the_texts(engine: Engine) -> None:
    engine.add(match(1, ["four", "a", "three"]))
    scores = run(engine)[1].scores
    assert [probability for probability, _ in scores] == pytest.approx([0.004, 0.001, 0.005])
    assert [cosine for _, cosine in scores] == [7, 7, 7]


def test_a_step_compares_no_more_than_one_batch(engine: Engine, model: Counting) -> None:
    # Given far more texts than a batch has
    for number in range(4):
        engine.add(match(number, [f"{number} {text}" for text in range(50)]))
    # When one step is done, Then the others can work again
    engine.step()
    assert model.passes == [PAIRS]
    answers = run(engine)
    assert sum(model.passes) == 200
    assert max(model.passes) == PAIRS
    assert all(len(answer.scores) == 50 for answer in answers.values())


def test_a_cancelled_row_ends_between_its_batches(engine: Engine, model: Counting) -> None:
    engine.add(match(1, ["a"] * 200))
    engine.add(match(2, ["bb"]))
    engine.step()
    engine.cancel(1)
    answers = run(engine)
    assert answers[1].error_code == "cancelled"
    assert answers[2].error_code is None
    assert sum(model.passes) < 100


def test_numbers_that_are_not_finite_fail_their_own_row(engine: Engine) -> None:
    engine.add(match(1, ["a"], shade=255))
    engine.add(match(2, ["a"]))
    engine.add(Request(3, "embed", "image-255", bytes([255] * 3)))
    engine.add(Request(4, "embed", "", None, "text"))
    answers = run(engine)
    assert [answers[n].error_code for n in (1, 2, 3, 4)] == ["internal", None, "internal", None]
    assert answers[4].embedding == (4.0,)


def test_the_text_that_is_too_long_is_named(engine: Engine) -> None:
    engine.add(match(1, ["a", "b" * 501]))
    answer = run(engine)[1]
    assert answer.error_code == "prompt_too_long"
    assert answer.error_message.startswith("Text 2:")


def test_no_more_images_are_encoded_in_a_step_than_time_allows(engine: Engine) -> None:
    lane = engine.matching
    assert lane is not None
    lane.scheduler.max_images = 3
    for number in range(10):
        engine.add(match(number, ["a"], shade=number))
    engine.add(Request(99, "embed", "", None, "a text has no image"))
    first = {answer.id for answer in engine.step()}
    assert first == {0, 1, 2, 99}
    assert len(run(engine)) == 7
