"""Decode steps in buckets; without a GPU, what a graph would replay is run anew each time."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from worker.engine.engine import Engine
from worker.engine.graphs import Capture, GraphedDecode, Run, row_bucket
from worker.engine.model import Generator
from worker.engine.request import GenerationOptions, Request


def replay_plainly(run: Run) -> Run:
    return run


def engine_with(model: Generator, capture: Capture, max_rows: int = 12) -> tuple[Engine, Any]:
    """An engine that decodes as it would on a GPU."""
    engine = Engine(model, max_rows=max_rows, reserved_rows=0)
    lane = engine.decoding
    assert lane is not None
    lane.slots.width_step = 16
    lane.decode = graphed = GraphedDecode(model, lane.slots, capture)
    return engine, graphed


def requests(count: int, most: int = 40) -> list[Request]:
    generator = random.Random(2)
    return [
        Request(
            number,
            "caption",
            str(number % 9),
            bytes([20 * (number % 9)] * 16 * 16 * 3),
            " a photo of" * generator.randrange(3),
            GenerationOptions(generator.choice([2, 5, 11, most])),
        )
        for number in range(count)
    ]


def texts(engine: Engine, asked: list[Request]) -> list[str]:
    waiting, generator, said = list(asked), random.Random(1), {}
    while waiting or not engine.idle:
        for _ in range(generator.randrange(4)):
            if waiting:
                engine.add(waiting.pop())
        said.update({answer.id: answer.text for answer in engine.step()})
    return [said[request.id] for request in asked]


@pytest.mark.parametrize(
    ("rows", "bucket"), [(1, 1), (3, 4), (9, 16), (16, 16), (17, 32), (33, 48), (60, 60)]
)
def test_row_counts_are_rounded_up_to_a_few(rows: int, bucket: int) -> None:
    assert row_bucket(rows, most=60) == bucket


def test_steps_in_buckets_give_the_same_texts(model: Generator) -> None:
    asked = requests(60)
    expected = texts(Engine(model, max_rows=12, reserved_rows=0), asked)
    engine, graphed = engine_with(model, replay_plainly)
    assert texts(engine, asked) == expected
    # There were several, and far fewer than steps.
    assert 4 < len(graphed._graphs) < engine.figures.steps / 4


def test_graphs_are_made_anew_when_the_buffers_have_moved(model: Generator) -> None:
    layouts = []
    engine, graphed = engine_with(model, replay_plainly)

    def capture(run: Run) -> Run:
        layout = graphed.slots.layout

        def replay() -> Tensor:
            assert graphed.slots.layout == layout  # else it would read freed memory
            return run()

        layouts.append(layout)
        return replay

    graphed._capture = capture
    texts(engine, requests(30, most=90))
    assert len(set(layouts)) > 1


def test_what_cannot_be_captured_is_run_plainly(model: Generator) -> None:
    def capture(run: Run) -> Run:
        raise torch.AcceleratorError("operation not permitted when stream is capturing")

    asked = requests(20)
    engine, graphed = engine_with(model, capture)
    assert texts(engine, asked) == texts(Engine(model), asked)
    assert not graphed._usable


def test_a_graph_that_does_not_do_the_same_is_not_used(model: Generator) -> None:
    asked = requests(20)
    engine, graphed = engine_with(model, lambda run: lambda: run() * 1.5)
    assert texts(engine, asked) == texts(Engine(model), asked)
    assert not graphed._usable


def test_a_graph_that_recorded_nothing_is_not_used(model: Generator) -> None:
    # What came out when it was captured stays there, and is right for that one step.
    def capture(run: Run) -> Run:
        logits = run()
        return lambda: logits

    asked = requests(20)
    engine, graphed = engine_with(model, capture)
    assert texts(engine, asked) == texts(Engine(model), asked)
    assert not graphed._usable


def test_a_row_without_finite_numbers_leaves_no_slot_that_cannot_be_computed(
    model: Generator,
) -> None:
    class Poisoned:
        def encode(self, pixels: Tensor) -> Tensor:
            features = model.encode(pixels)
            features[pixels[:, 0, 0, 0] == 60] = torch.nan  # request 3, in the last slot
            return features

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

    engine, graphed = engine_with(Poisoned(), replay_plainly)  # type: ignore[arg-type]
    lane = engine.decoding
    assert lane is not None
    lane.decode = graphed
    for number in range(4):
        pixels = bytes([20 * number] * 16 * 16 * 3)
        engine.add(Request(number, "caption", str(number), pixels, "", GenerationOptions(9)))
    codes = {}
    while not engine.idle:
        codes.update({answer.id: answer.error_code for answer in engine.step()})
    assert codes == {0: None, 1: None, 2: None, 3: "internal"}
