"""Ranking of a closed list of answers."""

from __future__ import annotations

import pytest

from producer.contract import ItemResult
from producer.job import Result
from worker.engine.request import Answer, GeneratedSequence, GenerationOptions
from worker.recipes.answers import rank_answers


def answer(*logprobs: float) -> Answer:
    tokens = tuple(range(len(logprobs)))
    texts = tuple("x" for _ in logprobs)
    sequence = GeneratedSequence("x x", tokens, texts, logprobs, is_complete=True)
    return Answer(1, "x x", len(logprobs), sequences=(sequence,), prompt_tokens=7)


def ranked(answers: list[Answer], options: GenerationOptions | None = None) -> ItemResult:
    recipe = rank_answers(
        "cat?", ["yes", "no", "maybe"][: len(answers)], options or GenerationOptions()
    )
    calls = next(recipe)
    assert [call.candidate for call in calls] == ["yes", "no", "maybe"][: len(answers)]
    with pytest.raises(StopIteration) as end:
        recipe.send(answers)
    result: ItemResult = end.value.value
    return result


def test_the_best_answer_is_the_text_and_all_have_probabilities_that_sum_to_one() -> None:
    result = ranked([answer(-2.0, -1.0), answer(-0.5), answer(-4.0, -3.0)])
    texts = Result.of(0, result).sequences
    assert [text.text for text in texts] == ["no", "yes", "maybe"]
    assert result["text"] == "no"
    assert [text.logprob for text in texts] == [-0.5, -3.0, -7.0]
    assert sum(text.probability or 0 for text in texts) == pytest.approx(1, abs=1e-5)
    assert not texts[0].tokens


def test_output_scores_adds_the_tokens_of_each_answer() -> None:
    result = ranked([answer(-2.0, -1.0)], GenerationOptions(output_scores=True))
    (text,) = Result.of(0, result).sequences
    assert [token.logprob for token in text.tokens] == [-2.0, -1.0]
    assert result["prompt_tokens"] == 7


def test_an_answer_that_the_model_never_gives_is_the_last() -> None:
    result = ranked([answer(-float("inf")), answer(-0.5)])
    assert [text.probability for text in Result.of(0, result).sequences] == [1.0, 0.0]
    assert result["sequences"][1]["logprob"] == -1e9


def test_the_error_of_an_answer_is_that_of_the_item() -> None:
    failed = Answer(2, error_code="cancelled", error_message="stopped")
    assert ranked([answer(-1.0), failed])["error"]["code"] == "cancelled"
