"""VQA accuracy equals that of the official evaluation."""

from __future__ import annotations

import pytest

from producer.errors import InvalidInput
from producer.evaluation.vqa import (
    Question,
    VqaScores,
    accuracy_of,
    normalize_answer,
    score_answers,
)
from tests.evaluation.reference import VALUES

OFFICIAL = VALUES["vqa"]


@pytest.mark.parametrize(("answer", "normalized"), OFFICIAL["normalized"])
def test_an_answer_is_normalized_as_the_official_code_does(answer: str, normalized: str) -> None:
    assert normalize_answer(answer) == normalized


@pytest.fixture(scope="module")
def scores() -> VqaScores:
    questions = OFFICIAL["questions"]
    return score_answers(
        {question["question_id"]: question["answer"] for question in questions},
        {
            question["question_id"]: Question(
                question["human"], question["answer_type"], question["question_type"]
            )
            for question in questions
        },
    )


def test_the_accuracy_of_each_question_is_the_official_one(scores: VqaScores) -> None:
    for question in OFFICIAL["questions"]:
        assert round(100 * scores.by_question[question["question_id"]], 2) == question["accuracy"]


@pytest.mark.parametrize("name", ["overall", "perAnswerType", "perQuestionType"])
def test_the_summary_is_the_official_one(scores: VqaScores, name: str) -> None:
    assert scores.to_json()[name] == OFFICIAL["accuracy"][name]


@pytest.mark.parametrize(
    ("matches", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)]
)
def test_the_accuracy_averages_the_subsets_of_nine_answers(matches: int, accuracy: float) -> None:
    human = ["red"] * matches + [f"shade {number}" for number in range(10 - matches)]
    assert accuracy_of("Red.", human) == pytest.approx(accuracy)


def test_unanimous_answers_are_compared_as_they_are() -> None:
    # The official code normalizes only answers that differ.
    assert accuracy_of("Red.", ["red"] * 10) == 0
    assert accuracy_of(" red\n", ["red"] * 10) == 1


def test_a_question_without_an_answer_is_named() -> None:
    with pytest.raises(InvalidInput, match="question 2: there is no answer"):
        score_answers({1: "a"}, {1: Question(["a"] * 10), 2: Question(["b"] * 10)})


def test_an_answer_without_a_question_is_named() -> None:
    with pytest.raises(InvalidInput, match="question 3: the annotations do not have it"):
        score_answers({1: "a", 3: "b"}, {1: Question(["a"] * 10)})
