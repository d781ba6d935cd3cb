"""Questions as the engine gives them to the model, alone and after earlier turns."""

from __future__ import annotations

from collections.abc import Iterable

PROMPT = "Question: {question} Answer:"

#: The end of an answer before the next question.
TURN_END = ". "


def dialogue(turns: Iterable[tuple[str, str]], question: str) -> str:
    """Lay out earlier questions with their answers, then the question to be answered."""
    earlier = (f"{PROMPT.format(question=q)} {answer}{TURN_END}" for q, answer in turns)
    return "".join([*earlier, PROMPT.format(question=question)])
