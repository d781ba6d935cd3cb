"""Decode steps in buckets. Without a GPU each replay runs the captured function again."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.workload import with_methods
from worker.engine.engine import Engine
from worker.engine.graphs import Capture, GraphedDecode, Run, row_bucket
from worker.engine.model import Generator
from worker.engine.request import GenerationOptions, Request


def replay_eagerly(run: Run) -> Run:
    return run


def engine_with(model: Generator, capture: Capture, max_rows: int = 12) -> tuple[Engine, Any]:
    """Build an engine that decodes as on a GPU."""
    engine = Engine(model, max_rows=max_rows, reserved_rows=0)
    lane = engine.decoding
    assert lane is not None
    lane.slots.width_step = 16
    lane.decode = graphed = GraphedDecode(model.decoder, lane.slots, capture)
    return engine, graphed


def requests(count: int, longest: int = 40) -> list[Request]:
    generator = random.Random(2)
    return [
        Request(
            number,
            "caption",
            str(number % 9),
            bytes([20 * (number % 9)] * 16 * 16 * 3),
            " a photo of" * generator.randrange(3),
            GenerationOptions(generator.choice([2, 5, 11, longest])),
        )
        for number in range(count)
    ]


def texts(engine: Engine, submitted: list[Request]) -> list[str]:
    """Run requests that arrive at random steps; return their texts."""
    waiting, generator = list(submitted), random.Random(1)
    answers: dict[int | str, str] = {}
    while waiting or not engine.idle:
        for _ in range(generator.randrange(4)):
            if waiting:
                engine.add(waiting.pop())
        answers.update({answer.id: answer.text for answer in engine.step()})
    return [answers[request.id] for request in submitted]


@pytest.mark.parametrize(
    ("rows", "bucket"), [(1, 1), (3, 4), (9, 16), (16, 16), (17, 32), (33, 48), (60, 60)]
)
def test_row_counts_are_rounded_up_to_buckets(rows: int, bucket: int) -> None:
    assert row_bucket(rows, limit=60) == bucket


def test_steps_in_buckets_give_the_same_texts(model: Generator) -> None:
    submitted = requests(60)
    expected = texts(Engine(model, max_rows=12, reserved_rows=0), submitted)
    engine, graphed = engine_with(model, replay_eagerly)
    assert texts(engine, submitted) == expected
    # There are several graphs, and far fewer than steps.
    assert 4 < len(graphed._graphs) < engine.stats.steps / 4


def test_graphs_are_captured_again_when_the_buffers_have_moved(model: Generator) -> None:
    layouts = []
    engine, graphed = engine_with(model, replay_eagerly)

    def capture(run: Run) -> Run:
        layout = graphed.slots.layout

        def replay() -> Tensor:
            assert graphed.slots.layout == layout  # else it would read freed memory
            return run()

        layouts.append(layout)
        return replay

    graphed._capture = capture
    texts(engine, requests(30, longest=90))
    assert len(set(layouts)) > 1


def test_a_step_that_cannot_be_captured_runs_eagerly(model: Generator) -> None:
    def capture(run: Run) -> Run:
        raise torch.AcceleratorError("operation not permitted when stream is capturing")

    submitted = requests(20)
    engine, graphed = engine_with(model, capture)
    assert texts(engine, submitted) == texts(Engine(model), submitted)
    assert not graphed._usable


def test_a_graph_whose_logits_differ_is_not_used(model: Generator) -> None:
    submitted = requests(20)
    engine, graphed = engine_with(model, lambda run: lambda: run() * 1.5)
    assert texts(engine, submitted) == texts(Engine(model), submitted)
    assert not graphed._usable


def test_a_graph_that_recorded_nothing_is_not_used(model: Generator) -> None:
    # The logits of the capture stay in place, and are correct for that one step.
    def capture(run: Run) -> Run:
        logits = run()
        return lambda: logits

    submitted = requests(20)
    engine, graphed = engine_with(model, capture)
    assert texts(engine, submitted) == texts(Engine(model), submitted)
    assert not graphed._usable


def test_a_row_without_finite_numbers_leaves_no_slot_that_cannot_be_computed(
    model: Generator,
) -> None:
    def encode(pixels: Tensor) -> Tensor:
        features = model.encode(pixels)
        features[pixels[:, 0, 0, 0] == 60] = torch.nan  # request 3, in the last slot
        return features

    engine, graphed = engine_with(with_methods(model, encode=encode), replay_eagerly)
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
