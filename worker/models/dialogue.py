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

    The form is that of the BLIP-2 examples. The oldest turns are dropped until the text `fits`.
    Raises PromptTooLong if the question alone does not.
    """

    def text(first: int) -> str:
        earlier = [
            f"{fill_template(template, turn_question)} {answer}."
            for turn_question, answer in turns[first:]
        ]
        return " ".join([*earlier, fill_template(template, question)])

    # A shorter text fits if a longer one does, so bisection finds the first turn in a few trials.
    first = bisect_left(range(len(turns) + 1), True, key=lambda turn: fits(text(turn)))
    if first > len(turns):
        raise PromptTooLong("The question alone is longer than the model reads.")
    return text(first)


def fill_template(template: str, question: str) -> str:
    """Return a question in its template."""
    return template.replace("{question}", question)
