"""Texts that are sent while they grow: beginnings of the final text, in every family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.models.families import Family, family
from worker.engine import text_streams
from worker.engine.engine import Engine
from worker.engine.request import Answer, GenerationOptions, Request

__all__ = ["family"]

PROMPTS = ["", "a red circle", "a photo of", "is it two , or"]


@pytest.fixture(autouse=True)
def no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_streams, "INTERVAL_S", 0.0)


def run(engine: Engine, requests: list[Request]) -> tuple[dict[Any, list[str]], dict[Any, Answer]]:
    """Run requests; return the texts that each receives, and the answers."""
    for request in requests:
        engine.add(request)
    texts: dict[Any, list[str]] = {request.id: [] for request in requests}
    answers: dict[Any, Answer] = {}
    while not engine.idle:
        for answer in engine.step():
            answers[answer.id] = answer
        for number, text in engine.partial_texts():
            assert number not in answers
            texts[number].append(text)
    return texts, answers


def test_each_text_is_a_beginning_of_the_final_one(family: Family) -> None:
    requests = []
    for number in range(16):
        options = GenerationOptions(max_new_tokens=24, min_new_tokens=24)
        if number % 2:
            options = replace(options, temperature=1.5, seed=number)
        request = family.request(number, number % 4, PROMPTS[number // 4], options)
        requests.append(replace(request, streams=True))
    texts, answers = run(Engine(family.model, max_rows=5, reserved_rows=1), requests)
    for number, answer in answers.items():
        for earlier, later in zip(texts[number], [*texts[number], answer.text][1:], strict=True):
            assert later.startswith(earlier), (earlier, later)
        assert len(set(texts[number])) == len(texts[number])
    # They grow by a token or a few, not at the end
    assert sum(map(len, texts.values())) > 8 * len(requests)


def test_requests_that_do_not_ask_and_beams_receive_no_text(family: Family) -> None:
    plain = family.request(0, 0, "", GenerationOptions(max_new_tokens=9, min_new_tokens=9))
    beams = GenerationOptions(max_new_tokens=9, min_new_tokens=9, num_beams=2)
    streams = replace(plain, id=1, streams=True)
    searched = replace(plain, id=2, streams=True, options=beams)
    texts, answers = run(Engine(family.model, max_rows=3), [plain, streams, searched])
    # Equal requests share a row; only the one that asks receives its text
    assert answers[0].text == answers[1].text
    assert (texts[0], texts[2]) == ([], [])
    assert texts[1]


def test_a_cancelled_request_receives_no_further_text(family: Family) -> None:
    options = GenerationOptions(max_new_tokens=20, min_new_tokens=20)
    engine = Engine(family.model, max_rows=2)
    engine.add(replace(family.request(0, 0, "", options), streams=True))
    for _ in range(4):
        engine.step()
        engine.partial_texts()
    engine.cancel(0)
    assert not engine.partial_texts()
    while not engine.idle:
        engine.step()
        assert not engine.partial_texts()
