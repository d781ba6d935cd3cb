from __future__ import annotations

import pytest

from worker.engine.errors import PromptTooLong
from worker.models.dialogue import with_history

TEMPLATE = "Q: {question} A:"
TURNS = [(f"q{number}", "a") for number in range(100)]


def test_as_many_of_the_newest_turns_stay_as_fit() -> None:
    for room in range(9, 1500, 7):
        text = with_history(TEMPLATE, TURNS, "now", lambda one, room=room: len(one) <= room)
        kept = text.count("Q: q")
        longer = f"Q: q{99 - kept} A: a. {text}"
        assert len(text) <= room
        assert kept == 100 or len(longer) > room


def test_a_long_dialogue_is_tried_a_few_times_only() -> None:
    tried = []
    with_history(TEMPLATE, TURNS, "now", lambda one: tried.append(one) or len(one) < 200)  # type: ignore[func-returns-value]
    assert len(tried) < 10


def test_a_question_that_does_not_fit_alone_is_refused() -> None:
    with pytest.raises(PromptTooLong):
        with_history(TEMPLATE, TURNS, "now", lambda one: False)
