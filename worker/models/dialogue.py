"""Prompts of questions and dialogues in BLIP-2's template."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from worker.engine.errors import PromptTooLong

Turn = tuple[str, str]


def format_dialogue(
    template: str, turns: Sequence[Turn], question: str, fits: Callable[[str], bool]
) -> str:
    """Format earlier turns and a question: `Question: q Answer: a. Question: q Answer:`.

    The format is that of the BLIP-2 examples. The oldest turns are dropped until the text `fits`.
    Raises PromptTooLong if the question by itself does not fit.
    """

    def text(first: int) -> str:
        earlier = [
            f"{fill_template(template, turn_question)} {answer}."
            for turn_question, answer in turns[first:]
        ]
        return " ".join([*earlier, fill_template(template, question)])

    # If a text fits, so does a shorter one: bisection finds the first turn in a few steps.
    first = bisect_left(range(len(turns) + 1), True, key=lambda turn: fits(text(turn)))
    if first > len(turns):
        raise PromptTooLong("The question exceeds the model's limit, even without earlier turns.")
    return text(first)


def fill_template(template: str, question: str) -> str:
    """Return a question in its template."""
    return template.replace("{question}", question)
