from __future__ import annotations

from functools import partial

import pytest

from worker.engine.errors import PromptTooLong
from worker.models.dialogue import format_dialogue

TEMPLATE = "Q: {question} A:"
TURNS = [(f"q{number}", "a") for number in range(100)]


def fits_in(room: int, text: str) -> bool:
    return len(text) <= room


def test_as_many_of_the_newest_turns_stay_as_fit() -> None:
    for room in range(9, 1500, 7):
        text = format_dialogue(TEMPLATE, TURNS, "now", partial(fits_in, room))
        turns = text.count("Q: q")
        longer = f"Q: q{99 - turns} A: a. {text}"
        assert len(text) <= room
        assert turns == 100 or len(longer) > room


def test_a_long_dialogue_is_tried_a_few_times_only() -> None:
    tried = []
    format_dialogue(TEMPLATE, TURNS, "now", lambda text: tried.append(text) or len(text) < 200)  # type: ignore[func-returns-value]
    assert len(tried) < 10


def test_a_question_that_does_not_fit_alone_is_rejected() -> None:
    with pytest.raises(PromptTooLong):
        format_dialogue(TEMPLATE, TURNS, "now", lambda text: False)
