"""Images, random options and random arrival of requests, for models under test."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from PIL import Image

from worker.engine.engine import Engine
from worker.engine.request import Answer, Request


def row_counts(sample: int, exhaustive: int) -> list[Any]:
    """Return numbers of random rows: for every run, and for that of exhaustive tests."""
    return [sample, pytest.param(exhaustive, marks=pytest.mark.exhaustive)]


def sample_of(members: Iterable[Any], *sample: Any) -> list[Any]:
    """Return the members of a kind, of which every run has the sample alone."""
    more = pytest.mark.exhaustive
    return [
        member if member in sample else pytest.param(member, marks=more, id=str(member))
        for member in members
    ]


def picture(number: int) -> Image.Image:
    generator = random.Random(number)
    image = Image.new("RGB", (16, 16), tuple(generator.randrange(256) for _ in range(3)))
    image.paste(tuple(generator.randrange(256) for _ in range(3)), (4, 2, 12, 9))
    return image


def some_options(generator: random.Random) -> dict[str, Any]:
    how: dict[str, Any] = {"max_new_tokens": generator.choice([1, 2, 4, 7, 12])}
    kind = generator.randrange(6)
    if kind == 5:
        return how | {
            "num_beams": generator.choice([2, 4]),
            "length_penalty": generator.choice([0.5, 1.0, 2.0]),
            "early_stopping": generator.choice([True, False]),
            "no_repeat_ngram_size": generator.choice([0, 2]),
        }
    if kind == 1:
        how |= {"repetition_penalty": 1.6, "no_repeat_ngram_size": generator.choice([0, 2])}
    if kind == 2:
        how |= {"no_repeat_ngram_size": generator.choice([1, 2, 3])}
    if kind in (2, 3):
        how |= {"min_new_tokens": min(how["max_new_tokens"], generator.choice([2, 5, 12]))}
    if kind == 4:
        how |= {
            "seed": generator.randrange(10_000),
            "temperature": generator.choice([0.7, 1.0, 1.4]),
            "top_k": generator.choice([0, 3, 40]),
            "top_p": generator.choice([0.5, 0.9, 1.0]),
            "min_p": generator.choice([0.0, 0.02]),
            "typical_p": generator.choice([1.0, 0.7]),
            "epsilon_cutoff": generator.choice([0.0, 0.01]),
            "eta_cutoff": generator.choice([0.0, 0.02]),
            "repetition_penalty": generator.choice([1.0, 1.3]),
        }
    return how


def some_beams(generator: random.Random) -> dict[str, Any]:
    return {
        "max_new_tokens": generator.choice([2, 5, 9]),
        "num_beams": 3,
        "length_penalty": generator.choice([-1.0, 1.0, 2.0]),
        "early_stopping": generator.choice([False, True, "never"]),
        "repetition_penalty": generator.choice([1.0, 1.5]),
        "no_repeat_ngram_size": generator.choice([0, 2]),
    }


def some_sampled_beams(generator: random.Random) -> dict[str, Any]:
    """Draw options of few groups, so that rows with different seeds share them."""
    top_k, top_p, min_p = generator.choice([(0, 1.0, 0.0), (0, 0.9, 0.0), (40, 1.0, 0.02)])
    return {
        "max_new_tokens": generator.choice([4, 9]),
        "num_beams": 3,
        "seed": generator.randrange(10_000),
        "temperature": generator.choice([0.8, 1.3]),
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "length_penalty": 2.0,
        "repetition_penalty": 1.5,
        "no_repeat_ngram_size": 2,
    }


def serve(engine: Engine, requests: list[Request], generator: random.Random) -> dict[Any, Answer]:
    """Run requests that arrive at random steps; check that each gets exactly one answer."""
    waiting, answers = list(requests), dict[Any, Answer]()
    while waiting or not engine.idle:
        for _ in range(generator.choice([0, 0, 1, 2, 7])):
            if waiting:
                engine.add(waiting.pop(0))
        for answer in engine.step():
            assert answer.id not in answers
            answers[answer.id] = answer
    return answers
