"""Several texts of one item, and their scores."""

from __future__ import annotations

from typing import Any

import pytest

from producer.job import Result
from worker.engine.request import Answer, GeneratedSequence, GenerationOptions
from worker.recipes.sequences import options_of_rows, text_result

SEQUENCES = (
    GeneratedSequence("a cat", (5, 2), (" cat", "</s>"), (-0.25, -1.0), is_complete=True),
    GeneratedSequence("a dog", (6, 7), (" dog", "s"), (-2.0, -3.0), is_complete=False),
)


def test_samples_are_rows_whose_seeds_follow_each_other() -> None:
    options = GenerationOptions(temperature=1.0, seed=2**63 - 1, num_return_sequences=3)
    rows = options_of_rows(options)
    assert [row.seed for row in rows] == [2**63 - 1, 0, 1]
    assert {row.num_return_sequences for row in rows} == {1}
    unseeded = GenerationOptions(temperature=1.0, num_return_sequences=2)
    assert [row.seed for row in options_of_rows(unseeded)] == [None, None]


def test_beams_are_one_row() -> None:
    options = GenerationOptions(num_beams=3, num_return_sequences=3)
    assert options_of_rows(options) == [options]


def test_a_result_has_scores_or_several_texts_only_where_options_ask_for_them() -> None:
    answer = Answer(1, "a cat", 2, sequences=SEQUENCES, prompt_tokens=9)
    beams: dict[str, Any] = {"num_beams": 2, "num_return_sequences": 2}
    assert text_result([answer], GenerationOptions()) == {"text": "a cat"}
    assert text_result([answer], GenerationOptions(**beams)) == {
        "text": "a cat",
        "sequences": [{"text": "a cat"}, {"text": "a dog"}],
    }
    samples = GenerationOptions(temperature=1.0, num_return_sequences=2)
    assert text_result([Answer(1, "x"), Answer(2, "y")], samples) == {
        "text": "x",
        "sequences": [{"text": "x"}, {"text": "y"}],
    }


def test_scores_reach_the_client_as_the_worker_computes_them() -> None:
    answer = Answer(1, "a cat", 2, sequences=SEQUENCES, prompt_tokens=9)
    options = GenerationOptions(num_beams=2, num_return_sequences=2, output_scores=True)
    payload = text_result([answer], options)
    result = Result.of(0, payload)
    best, worst = result.sequences
    assert (best.logprob, best.finish_reason) == (-1.25, "stop")
    assert (worst.logprob, worst.finish_reason) == (-5.0, "length")
    assert [(token.id, token.text, token.logprob) for token in worst.tokens] == [
        (6, " dog", -2.0),
        (7, "s", -3.0),
    ]
    assert result.output() == payload
    assert Result.of(0, {"text": "a"}).sequences[0].text == "a"


@pytest.mark.parametrize("count", [1, 2])
def test_a_result_without_sequences_is_that_of_an_earlier_worker(count: int) -> None:
    assert Result.of(0, {"text": "a"}).output() == {"text": "a"}
    assert options_of_rows(GenerationOptions(num_beams=count)) == [
        GenerationOptions(num_beams=count)
    ]
