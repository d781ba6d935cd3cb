"""A dialogue about an image, as one prompt: earlier turns, then the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from worker.models import PromptTooLong

Turn = tuple[str, str]


def with_history(
    template: str, turns: Sequence[Turn], question: str, fits: Callable[[str], bool]
) -> str:
    """Turns are laid out like the question, each followed by its answer and a full stop.

    The form of the BLIP-2 examples: `Question: q Answer: a. Question: q Answer:`. The oldest turns
    are left out until the whole `fits`; raises PromptTooLong if the question alone does not.
    """
    for first in range(len(turns) + 1):
        said = [f"{ask(template, one)} {answer}." for one, answer in turns[first:]]
        text = " ".join([*said, ask(template, question)])
        if fits(text):
            return text
    raise PromptTooLong("The question alone is longer than the model reads.")


def ask(template: str, question: str) -> str:
    """A question in its template."""
    return template.replace("{question}", question)
