"""VQA accuracy by the official rules, in the VQAv2 format.

An answer counts min(matches / 3, 1), averaged over the subsets of nine of the ten human answers
(Antol et al., VQA: Visual Question Answering, ICCV 2015). Answers are normalized by the rules of
https://visualqa.org/evaluation.html and `vqaEval.py` of https://github.com/GT-Vision-Lab/VQA, with
their peculiarities: published accuracies contain them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ..errors import InvalidInput

#: Contractions; an answer that lacks one of their apostrophes gets it.
_CONTRACTIONS: Final = " ".join(
    (
        "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've",
        "hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am",
        "mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at",
        "shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's",
        "someone'd someone'd've someone'll someone's something'd something'd've something'll",
        "that's there'd there'd've there're there's they'd they'd've they'll they're they've",
        "'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's",
        "where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't",
        "wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've",
    )
).split()
_EXPANDED: Final = {
    contraction[:position] + contraction[position + 1 :]: contraction
    for contraction in _CONTRACTIONS
    for position, character in enumerate(contraction)
    if character == "'"
} | {"somebody'd": "somebodyd"}
_NUMBERS: Final = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
]
_DIGITS: Final = {word: str(number) for number, word in enumerate(_NUMBERS)} | {"none": "0"}
_ARTICLES: Final = frozenset({"a", "an", "the"})
_PUNCTUATION: Final = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD: Final = re.compile(r"\.(?!\d)")
_COMMA_IN_NUMBER: Final = re.compile(r"\d,\d")


#: Id of a question.
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Question:
    """The human answers to a question, and its types if they are known."""

    answers: Sequence[str]
    answer_type: str | None = None
    question_type: str | None = None


@dataclass(frozen=True, slots=True)
class VqaScores:
    """Accuracies, 0 to 1."""

    questions: int
    accuracy: float
    #: Share of answers that equal a human one before normalization.
    exact_match: float
    by_answer_type: dict[str, float]
    by_question_type: dict[str, float]
    by_question: Mapping[Any, float]

    def to_json(self) -> dict[str, Any]:
        """Return the scores, accuracies in percent as in the official output."""
        return {
            "questions": self.questions,
            "overall": _percent(self.accuracy),
            "exact_match": _percent(self.exact_match),
            "perAnswerType": {name: _percent(value) for name, value in self.by_answer_type.items()},
            "perQuestionType": {
                name: _percent(value) for name, value in self.by_question_type.items()
            },
        }


def accuracy_of(answer: str, human_answers: Sequence[str]) -> float:
    """Return the accuracy of an answer, 0 to 1; equal human answers are not normalized."""
    answer = _strip(answer)
    expected = [_strip(human_answer) for human_answer in human_answers]
    if len(set(expected)) > 1:
        answer = normalize_answer(answer)
        expected = [normalize_answer(human_answer) for human_answer in expected]
    matches = expected.count(answer)
    # A subset without a matching answer has one match less.
    credits = (min(1.0, (matches - (text == answer)) / 3) for text in expected)
    return sum(credits) / len(expected)


def score_answers(answers: Mapping[Key, str], questions: Mapping[Key, Question]) -> VqaScores:
    """Score the answer to each question.

    Raises InvalidInput if a question has no answer, or an answer no question.
    """
    if not questions:
        raise InvalidInput("there are no questions to score")
    for name, missing in (
        ("there is no answer", questions.keys() - answers.keys()),
        ("the annotations do not have it", answers.keys() - questions.keys()),
    ):
        if missing:
            example = min(missing, key=str)
            raise InvalidInput(f"question {example}: {name} (of {len(missing):,} questions)")
    scores, exact = {}, 0
    by_answer_type: dict[str, list[float]] = defaultdict(list)
    by_question_type: dict[str, list[float]] = defaultdict(list)
    for identity, question in questions.items():
        score = accuracy_of(answers[identity], question.answers)
        scores[identity] = score
        exact += _strip(answers[identity]) in map(_strip, question.answers)
        if question.answer_type is not None:
            by_answer_type[question.answer_type].append(score)
        if question.question_type is not None:
            by_question_type[question.question_type].append(score)
    return VqaScores(
        questions=len(scores),
        accuracy=_mean(scores.values()),
        exact_match=exact / len(scores),
        by_answer_type={name: _mean(values) for name, values in sorted(by_answer_type.items())},
        by_question_type={name: _mean(values) for name, values in sorted(by_question_type.items())},
        by_question=scores,
    )


def _strip(answer: str) -> str:
    """Return an answer without line breaks, tabs and outer spaces."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def normalize_answer(answer: str) -> str:
    """Return an answer in lower case, without punctuation and articles, with digits."""
    words = _without_punctuation(answer).lower().split()
    words = [_DIGITS.get(word, word) for word in words]
    return " ".join(_EXPANDED.get(word, word) for word in words if word not in _ARTICLES)


def _without_punctuation(answer: str) -> str:
    """Return an answer whose punctuation is removed at the edge of a word, or else is a space."""
    in_number = _COMMA_IN_NUMBER.search(answer) is not None
    text = answer
    for mark in _PUNCTUATION:
        at_edge = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if at_edge or in_number else " ")
    return _PERIOD.sub("", text)


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values)


def _percent(share: float) -> float:
    return round(100 * share, 2)
