"""Memory of long texts in every family: refused alone where it is short, and given back."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.blip_checkpoints import save_caption, save_vqa
from tests.models.t5_checkpoints import save_blip2, save_instructblip
from tests.models.traffic import sample_of
from worker.engine.capacity import FIRST_CAPACITY
from worker.engine.engine import Engine
from worker.engine.request import Answer, GenerationOptions, Request
from worker.models.registry import load

SAVE: dict[str, Callable[[Path], None]] = {
    "t5": save_blip2,
    "instructblip": save_instructblip,
    "blip-vqa": save_vqa,
    "blip-caption": save_caption,
}
ROWS = 12


@pytest.fixture(scope="module", params=sample_of(["opt", *SAVE], "opt", "t5", "blip-vqa"))
def loaded(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A loaded model of each family."""
    if request.param == "opt":
        return load(str(checkpoint), precision="fp32", device="cpu")
    path = tmp_path_factory.mktemp(request.param)
    SAVE[request.param](path)
    return load(str(path), precision="fp32", device="cpu")


def row(model: Any, number: int, words: int, new: int = 4, **how: Any) -> Request:
    size = model.image_size
    pixels = bytes([20 * number % 250, 90, 130]) * size * size
    task = "vqa" if "vqa" in model.tasks else "caption"
    options = GenerationOptions(max_new_tokens=new, min_new_tokens=new, **how)
    return Request(number, task, f"image-{number}", pixels, " a" * words, options)


def longest_text(model: Any) -> int:
    """Return the words of the longest text that the model accepts before four tokens."""
    decoder = model.decoder
    limit = getattr(model, "questions", None) or getattr(model, "prompts", None)
    words = limit.positions - 2 if limit else 10**6
    if hasattr(decoder, "text_limit"):
        words = min(words, decoder.text_limit(4) - len(decoder.text_ids("Question: Answer:")) - 8)
    return words if "vqa" in model.tasks else words - 4


def capacities(engine: Engine) -> tuple[int, int]:
    assert engine.decoding is not None
    slots = engine.decoding.slots
    return slots.capacity, slots.source_capacity


def run(engine: Engine, requests: list[Request]) -> dict[Any, Answer]:
    for request in requests:
        engine.add(request)
    answers: dict[Any, Answer] = {}
    while not engine.idle:
        answers |= {answer.id: answer for answer in engine.step()}
    return answers


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}])
def test_long_texts_are_refused_without_memory_and_their_neighbours_answered(
    loaded: Any, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(loaded, max_rows=ROWS)
    first, longest = capacities(engine), longest_text(loaded)
    assert engine.decoding is not None
    generator = random.Random(4)
    words = [generator.randrange(1, 5) for _ in range(2 * ROWS)]
    long_rows = {3: longest, 8: longest, 9: longest - 5, 17: longest}
    words = [long_rows.get(number, count) for number, count in enumerate(words)]
    requests = [row(loaded, number, count, **how) for number, count in enumerate(words)]
    expected = run(engine, requests)
    assert not [answer for answer in expected.values() if answer.error_code]
    # Given free memory for the first buffers, or for a short row with its beams
    tokens = 3 * 50 if how else max(ROWS * max(first), 3 * 50)
    small = tokens * engine.decoding.slots.token_bytes
    monkeypatch.setattr("worker.engine.device.free_bytes", lambda device: small)
    answers = run(engine, requests)
    refused = {number for number, answer in answers.items() if answer.error_code}
    assert refused == set(long_rows)
    assert {answers[number].error_code for number in refused} == {"out_of_memory"}
    assert all(answers[n] == expected[n] for n in range(len(words)) if n not in refused)
    assert capacities(engine) == first
    # When memory is free again
    monkeypatch.undo()
    assert run(engine, requests) == expected


def test_memory_is_given_back_while_other_rows_run_on(loaded: Any) -> None:
    engine = Engine(loaded, max_rows=ROWS)
    first = capacities(engine)
    assert first[0] == FIRST_CAPACITY
    requests = [row(loaded, number, 1, new=14) for number in range(3)]
    long = row(loaded, 9, longest_text(loaded))
    for request in [*requests, long]:
        engine.add(request)
    assert engine.decoding is not None
    largest, answers = first, dict[Any, Answer]()
    while long.id not in answers:
        answers |= {answer.id: answer for answer in engine.step()}
        largest = max(largest, capacities(engine))
    assert engine.decoding.active == 3
    assert largest != first
    assert capacities(engine) == first
    answers |= run(engine, [])
    assert capacities(engine) == first
    # The buffers have moved under the running rows
    for request in requests:
        assert run(engine, [request])[request.id] == answers[request.id]
