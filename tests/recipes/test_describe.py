"""The recipe of descriptions, with answers in place of an engine."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from producer.contract import Detail
from worker.engine.request import Answer, GenerationOptions
from worker.recipes.describe import CONTINUATIONS, PROMPTS, describe, with_defaults
from worker.recipes.recipe import ModelCall

Reply = Callable[[ModelCall], Answer]
GREEDY = GenerationOptions()
SAMPLED = GenerationOptions(temperature=0.8, seed=5)


def run(
    reply: Reply,
    prompts: tuple[str, ...] = (),
    detail: Detail = Detail.MEDIUM,
    options: GenerationOptions = GREEDY,
    *,
    ranks: bool = True,
) -> tuple[Any, list[list[ModelCall]]]:
    """Run a recipe; return its result and the calls of each of its steps."""
    recipe = describe(prompts, detail, options, ranks=ranks)
    steps: list[list[ModelCall]] = []
    try:
        calls = next(recipe)
        while True:
            steps.append(calls)
            calls = recipe.send([reply(call) for call in calls])
    except StopIteration as end:
        return end.value, steps


def captioner(texts: dict[str, str], scores: dict[str, float] | None = None) -> Reply:
    """Continue each prompt with its text, and score texts; 0.9 unless given."""

    def reply(call: ModelCall) -> Answer:
        if call.task == "match":
            score = (scores or {}).get(call.texts[0], 0.9)
            return Answer(0, scores=((score, 0.0),))
        return Answer(0, f"{call.text} {texts.get(call.text, '')}".strip(), 5)

    return reply


def test_the_prompts_of_a_round_are_calls_of_one_step() -> None:
    result, steps = run(captioner({"": "a cat on a sofa"}))
    assert [call.text for call in steps[0]] == list(PROMPTS)
    assert {call.task for call in steps[0]} == {"caption"}
    assert [call.texts for call in steps[1]] == [("a cat on a sofa",)]
    assert result["text"] == "A cat on a sofa."
    assert (result["characters"], result["words"]) == (16, 5)


def test_a_later_round_continues_the_description_so_far() -> None:
    texts = {"": "a cat on a sofa", "a cat on a sofa. there is also": "a lamp"}
    result, steps = run(captioner(texts), prompts=("",))
    assert [call.text for call in steps[2]] == [
        f"a cat on a sofa. {prompt}" if prompt else "a cat on a sofa" for prompt in CONTINUATIONS
    ]
    assert result["text"] == "A cat on a sofa. There is also a lamp."
    assert [(c["prompt"], c["round"], c["used"]) for c in result["candidates"]] == [
        ("", 1, True),
        ("there is also", 2, True),
    ]


def test_a_later_round_may_extend_the_last_sentence() -> None:
    texts = {"": "a cat", "a cat": "on a green sofa"}
    assert run(captioner(texts), prompts=("",))[0]["text"] == "A cat on a green sofa."


@pytest.mark.parametrize(("detail", "rounds"), [*zip(Detail, (1, 2, 3), strict=True)])
def test_the_level_of_detail_is_the_number_of_rounds(detail: Detail, rounds: int) -> None:
    texts = {"": "a cat", "a cat": "on a sofa", "a cat on a sofa": "near a window"}
    result, _ = run(captioner(texts), ("",), detail)
    assert result["rounds"] == rounds
    assert result["words"] == (2, 5, 8)[rounds - 1]


def test_a_round_that_adds_nothing_is_the_last_unless_it_samples() -> None:
    result, _ = run(captioner({"": "a cat"}), ("",), Detail.HIGH)
    assert result["rounds"] == 2
    result, steps = run(captioner({"": "a cat"}), ("",), Detail.HIGH, SAMPLED)
    assert result["rounds"] == 3
    seeds = [calls[0].options.seed for calls in steps if calls[0].task == "caption"]
    assert seeds == [5, 6, 7]


def test_sentences_below_an_even_chance_are_dropped() -> None:
    texts = {"": "a cat on a sofa. a dog in a car"}
    result, _ = run(captioner(texts, {"a dog in a car": 0.2}), ("",), Detail.LOW)
    assert result["text"] == "A cat on a sofa."
    assert result["candidates"][0]["score"] == 0.55
    assert result["ranked_by"] == "match"


def test_without_a_matching_model_length_and_novelty_rank() -> None:
    texts = {"": "a cat on a sofa", "a dog": "in a car at night"}
    result, steps = run(captioner(texts), ("", "a dog"), Detail.LOW, ranks=False)
    assert len(steps) == 1
    assert result["text"] == "A dog in a car at night. A cat on a sofa."
    assert result["ranked_by"] == "length"
    assert [candidate["score"] for candidate in result["candidates"]] == [2.0, 3.0]


def test_options_that_are_not_set_are_those_of_the_level_of_detail() -> None:
    assert with_defaults(GREEDY, Detail.LOW).max_new_tokens == 60
    high = with_defaults(GenerationOptions(num_beams=2), Detail.HIGH)
    assert (high.num_beams, high.max_new_tokens, high.length_penalty) == (2, 250, 2.0)


@pytest.mark.parametrize("code", ["cancelled", "deadline_exceeded", "poisoned", "internal"])
def test_an_error_of_any_call_is_the_items_result(code: str) -> None:
    def reply(call: ModelCall) -> Answer:
        if call.text == "b" or call.texts == ("second",):
            return Answer(0, error_code=code, error_message="why")
        return Answer(0, "first. second. third", 5, scores=((0.9, 0.0),))

    expected = {"error": {"code": code, "message": "why"}}
    assert run(reply, ("a", "b"))[0] == expected
    assert run(reply, ("a", "c"))[0] == expected


def test_a_prompt_that_is_too_long_fails_the_item_only_in_the_first_round() -> None:
    def reply(call: ModelCall) -> Answer:
        if call.task == "match":
            # Also a sentence may be too long for the matching model
            too_long = len(call.texts[0]) > 40
            return refused if too_long else Answer(0, scores=((0.9, 0.0),))
        return refused if "sofa" in call.text else Answer(0, "a cat on a sofa. " + "long " * 9, 5)

    refused = Answer(0, error_code="prompt_too_long", error_message="has 999 tokens")
    result, _ = run(reply, ("",), Detail.HIGH)
    assert (result["text"], result["rounds"]) == ("A cat on a sofa. Long.", 2)
    assert run(reply, ("a sofa",))[0]["error"]["code"] == "prompt_too_long"


def test_a_model_without_any_text_gives_an_empty_description() -> None:
    result, _ = run(captioner({}), ("a photo of",))
    assert (result["text"], result["words"], result["candidates"]) == ("", 0, [])


def test_an_answer_of_maximum_length_loses_its_last_sentence() -> None:
    def reply(call: ModelCall) -> Answer:
        if call.task == "match":
            return Answer(0, scores=((0.9, 0.0),))
        return Answer(0, "a cat sits. a dog ru", call.options.max_new_tokens)

    assert run(reply, ("",), Detail.LOW)[0]["text"] == "A cat sits."


def test_candidates_that_differ_in_case_or_punctuation_are_scored_once() -> None:
    texts = {"": "a cat, here", "a photo of": "A Cat here", "a cat, here. there is also": "a cat"}
    result, steps = run(captioner(texts), ("", "a photo of"))
    assert [call.texts for call in steps[1]] == [("a cat, here",)]
    assert result["text"] == "A cat, here."
    assert [(c["score"], c["used"]) for c in result["candidates"][:2]] == [(0.9, True)] * 2


def test_a_description_of_any_texts_is_clean_prose() -> None:
    rng = random.Random(7)
    pieces = [
        "a cat",
        "A Cat,",
        "two dogs",
        "no",
        " . ",
        "...",
        "\n",
        "(",
        '"',
        "\ufffd",
        "left of",
    ]
    pieces += ["é", "猫", "'s", "-", ";", "a photo of", "red", "blue", "and", "", "there is also"]

    def reply(call: ModelCall) -> Answer:
        if call.task == "match":
            return Answer(0, scores=((rng.random(), 0.0),))
        text = " ".join(rng.choices(pieces, k=rng.randrange(12)))
        return Answer(
            0, f"{call.text} {text}" if rng.random() < 0.8 else text, rng.choice([5, 250])
        )

    for number in range(300):
        options = SAMPLED if number % 2 else GREEDY
        result, _ = run(reply, ("", "a red"), Detail.HIGH, options, ranks=number % 3 > 0)
        assert result["characters"] == len(result["text"])
        assert result["text"] == result["text"].strip()
        for mark in ("  ", "\n", " .", "..", "\ufffd"):
            assert mark not in result["text"]
        assert not result["text"] or result["text"][-1] in ".!?"
