"""The recipe of CapFilt, with answers in place of an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from worker.engine.request import Answer, GenerationOptions
from worker.recipes.capfilt import FilterTerms, capfilt, nucleus_options
from worker.recipes.recipe import ModelCall

Reply = Callable[[ModelCall], Answer]
TERMS = FilterTerms(captions=1, threshold=0.5, synthetic_threshold=0.5)
SCORES = {"a cat": 0.9, "a dog": 0.2, "a cat on a sofa": 0.95, "a sofa": 0.5}


def run(
    texts: list[str],
    terms: FilterTerms = TERMS,
    options: GenerationOptions | None = None,
    reply: Reply | None = None,
) -> tuple[Any, list[list[ModelCall]]]:
    """Run a recipe; return its result and the calls of each of its steps."""
    recipe = capfilt(texts, terms, options or GenerationOptions())
    answer, steps = reply or replies("a cat on a sofa"), []
    try:
        calls = next(recipe)
        while True:
            steps.append(calls)
            calls = recipe.send([answer(call) for call in calls])
    except StopIteration as end:
        return end.value, steps


def replies(*captions: str) -> Reply:
    """Answer captions in order, and score texts by SCORES."""
    remaining = list(captions)

    def reply(call: ModelCall) -> Answer:
        if call.task == "caption":
            return Answer(0, remaining.pop(0))
        (text,) = call.texts
        return Answer(0, scores=((SCORES.get(text, 0.1), 0.25),))

    return reply


def texts_of(scored: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(text["source"], text["text"]) for text in scored]


def test_captions_are_generated_while_the_texts_are_scored() -> None:
    result, steps = run(["a cat", "a dog"])
    assert [call.task for call in steps[0]] == ["caption", "match", "match"]
    assert [call.texts for call in steps[1]] == [("a cat on a sofa",)]
    assert result["text"] == "a cat on a sofa"
    assert result["accepted"] == [
        {"text": "a cat", "source": "web", "probability": 0.9, "cosine": 0.25},
        {"text": "a cat on a sofa", "source": "synthetic", "probability": 0.95, "cosine": 0.25},
    ]
    assert texts_of(result["rejected"]) == [("web", "a dog")]


def test_each_source_has_a_threshold_which_a_accepted_text_may_equal() -> None:
    result, _ = run(["a sofa", "a cat"], FilterTerms(1, 0.5, 0.96))
    assert texts_of(result["accepted"]) == [("web", "a sofa"), ("web", "a cat")]
    assert texts_of(result["rejected"]) == [("synthetic", "a cat on a sofa")]
    result, _ = run(["a sofa", "a cat"], FilterTerms(1, 0.51, 0.0))
    assert texts_of(result["rejected"]) == [("web", "a sofa")]


def test_without_a_match_there_is_no_best_text() -> None:
    result, _ = run(["a dog"], reply=replies("a bird"))
    assert (result["text"], result["accepted"]) == ("", [])
    assert texts_of(result["rejected"]) == [("web", "a dog"), ("synthetic", "a bird")]


def test_equal_texts_are_scored_once() -> None:
    terms = FilterTerms(3, 0.5, 0.5)
    result, steps = run(
        ["a cat", "A  Cat", "a dog"], terms, reply=replies("a CAT", "a bird", " A bird ")
    )
    assert [call.texts for call in steps[0][3:]] == [("a cat",), ("a dog",)]
    assert [call.texts for call in steps[1]] == [("a bird",)]
    assert texts_of(result["rejected"]) == [("web", "a dog"), ("synthetic", "a bird")]


def test_without_synthetic_captions_the_item_is_one_step() -> None:
    for count, captions in ((0, ()), (2, ("", " "))):
        result, steps = run(["a cat"], FilterTerms(count, 0.5, 0.5), reply=replies(*captions))
        assert len(steps) == 1
        assert texts_of(result["accepted"]) == [("web", "a cat")]


def test_captions_are_sampled_from_the_nucleus_each_with_its_own_seed() -> None:
    terms = FilterTerms(3, 0.5, 0.5)
    seeded = GenerationOptions(seed=2**63 - 2)
    _, steps = run(["a cat"], terms, seeded, replies("a", "b", "c"))
    options = [call.options for call in steps[0][:3]]
    assert [option.seed for option in options] == [2**63 - 2, 2**63 - 1, 0]
    assert {(option.temperature, option.top_p) for option in options} == {(1.0, 0.9)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (1.0, 0.9, 1)),
        ({"temperature": 0.5, "top_p": 0.8}, (0.5, 0.8, 1)),
        ({"top_k": 5, "temperature": 0.7}, (0.7, 0.9, 1)),
        ({"num_beams": 3}, (0.0, 1.0, 3)),
        ({"num_beams": 3, "temperature": 0.7}, (0.7, 0.9, 3)),
    ],
)
def test_options_that_are_set_are_used(given: dict[str, Any], expected: tuple[float, ...]) -> None:
    options = nucleus_options(GenerationOptions(**given))
    assert (options.temperature, options.top_p, options.num_beams) == expected


@pytest.mark.parametrize("code", ["cancelled", "deadline_exceeded", "poisoned", "internal"])
@pytest.mark.parametrize("failing", ["", "a cat", "a cat on a sofa"])
def test_an_error_of_any_call_is_the_items_result(code: str, failing: str) -> None:
    answer = replies("a cat on a sofa")

    def reply(call: ModelCall) -> Answer:
        if "".join(call.texts) == failing:
            return Answer(0, error_code=code, error_message="why")
        return answer(call)

    assert run(["a cat"], reply=reply)[0] == {"error": {"code": code, "message": "why"}}


def test_a_text_that_is_too_long_for_the_matching_model_is_dropped_alone() -> None:
    answer = replies("a cat on a sofa")

    def reply(call: ModelCall) -> Answer:
        if call.texts == ("long",):
            return Answer(0, error_code="prompt_too_long", error_message="has 999 tokens")
        return answer(call)

    result, _ = run(["long", "a cat"], reply=reply)
    assert len(result["accepted"]) == 2
    assert result["rejected"] == [
        {"text": "long", "source": "web", "probability": 0.0, "cosine": 0.0}
    ]
