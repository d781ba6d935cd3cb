"""A dialogue about an image, as one prompt: earlier turns, then the question."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from worker.engine.errors import PromptTooLong

Turn = tuple[str, str]


def with_history(
    template: str, turns: Sequence[Turn], question: str, fits: Callable[[str], bool]
) -> str:
    """Turns are laid out like the question, each followed by its answer and a full stop.

    The form of the BLIP-2 examples: `Question: q Answer: a. Question: q Answer:`. The oldest turns
    are left out until the whole `fits`; raises PromptTooLong if the question alone does not.
    """

    def text(first: int) -> str:
        said = [f"{ask(template, one)} {answer}." for one, answer in turns[first:]]
        return " ".join([*said, ask(template, question)])

    # What fits with a turn fits without it: a few trials find the first, not one for each turn.
    first = bisect_left(range(len(turns) + 1), True, key=lambda one: fits(text(one)))
    if first > len(turns):
        raise PromptTooLong("The question alone is longer than the model reads.")
    return text(first)


def ask(template: str, question: str) -> str:
    """A question in its template."""
    return template.replace("{question}", question)
