"""Beam search in groups, beside rows that are decoded in flight."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.engine.workload import LONG, ask, codes, rows_in, run, with_methods
from worker.engine.engine import Engine
from worker.engine.model import Generator, Prompt
from worker.engine.request import GenerationOptions

BEAMS = GenerationOptions(max_new_tokens=6, num_beams=3)


def test_beam_search_runs_beside_rows_that_are_decoded_in_flight(model: Generator) -> None:
    # Given rows that decode, and a group of beams
    engine = Engine(model, max_rows=9)
    requests = [ask(n, options=BEAMS if n % 2 else LONG) for n in range(8)]
    answers = run(engine, *requests)
    assert codes(answers) == [None] * 8
    # Then the steps of the group were steps of the others as well
    assert engine.stats.steps < 6 + 6 + 10
    for request in requests:
        assert run(Engine(model), request)[request.id].text == answers[request.id].text


def test_a_group_of_beams_ends_when_all_its_requests_are_cancelled(model: Generator) -> None:
    engine = Engine(model)
    long = GenerationOptions(max_new_tokens=100, min_new_tokens=100, num_beams=2)
    for number in range(3):
        engine.add(ask(number, options=long))
    engine.step()
    for number in range(3):
        engine.cancel(number)
    steps = engine.stats.steps
    assert codes(run(engine)) == ["cancelled"] * 3
    assert engine.stats.steps - steps < 5
    assert rows_in(engine) == 0


def test_a_row_that_beam_search_cannot_run_fails_alone(model: Generator) -> None:
    def generate(features: Tensor, prompts: list[Prompt], *rest: Any) -> Any:
        if features[:, 0, 0].max() > 1e6:
            raise RuntimeError("no kernel")
        return model.decoder.generate(features, prompts, *rest)

    def encode(pixels: Tensor) -> Tensor:
        features = model.encode(pixels)
        features[pixels[:, 0, 0, 0] == 70] = 1e7  # request 3
        return features

    faulty = with_methods(model, generate=generate, encode=encode)
    answers = run(Engine(faulty), *(ask(n, options=BEAMS) for n in range(6)))
    assert codes(answers) == [None, None, None, "internal", None, None]
    assert answers[5].text == run(Engine(model), ask(5, options=BEAMS))[5].text


def test_beam_search_fails_a_row_whose_features_are_not_finite(model: Generator) -> None:
    def encode(pixels: Tensor) -> Tensor:
        features = model.encode(pixels)
        features[pixels[:, 0, 0, 0] == 70] = torch.nan  # request 3
        return features

    engine = Engine(with_methods(model, encode=encode))
    answers = run(engine, *(ask(n, options=BEAMS) for n in range(5)))
    assert codes(answers) == [None, None, None, "internal", None]
