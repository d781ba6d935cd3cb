"""The generation options that the page offers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import gradio as gr

from ..errors import InvalidInput

#: Not one of the contract's options, but given beside them.
DEADLINE: Final = "deadline_s"

#: Name, and its label, value and step. What may be chosen is the contract's to say.
FIELDS: Final[dict[str, tuple[str, float | None, float]]] = {
    "max_new_tokens": ("Longest text, tokens", 20, 1),
    "num_beams": ("Beams", 1, 1),
    "temperature": ("Temperature, 0: greedy", 0, 0.05),
    "top_p": ("Top p", 1, 0.05),
    "top_k": ("Top k, 0: off", 0, 1),
    "repetition_penalty": ("Repetition penalty", 1, 0.05),
    "seed": ("Seed", None, 1),
    DEADLINE: ("Deadline, seconds", None, 1),
}
_WHOLE: Final = frozenset({"seed"})
_NAMED: Final = re.compile(rf"\b({'|'.join(FIELDS)})=")


def option_fields() -> list[gr.components.Component]:
    """A field for each of FIELDS, in that order, at the contract's defaults."""
    fields: list[gr.components.Component] = []
    turns = iter(FIELDS)
    for pair in zip(turns, turns, strict=True):
        with gr.Row():
            fields += map(_field, pair)
    return fields


def chosen(values: Sequence[Any]) -> dict[str, Any]:
    """What was chosen, as the client takes it; empty fields are not there. Raises InvalidInput."""
    pairs = zip(FIELDS, values, strict=True)
    return {name: _number(name, value) for name, value in pairs if value not in (None, "")}


def labelled(message: str) -> str:
    """A message about options, with the words that the page has for them."""
    return _NAMED.sub(lambda found: f"{FIELDS[found[1]][0]} = ", message)


def _field(name: str) -> gr.components.Component:
    label, value, step = FIELDS[name]
    about: dict[str, Any] = {"label": label, "elem_id": name.replace("_", "-"), "min_width": 100}
    if value is None:
        # Gradio shows a number that is not there as 0.
        return gr.Textbox(placeholder="none", max_lines=1, **about)
    return gr.Number(value, step=step, minimum=0, **about)


def _number(name: str, value: Any) -> float:
    if not isinstance(value, str):
        return value  # type: ignore[no-any-return]
    try:
        return int(value) if name in _WHOLE else float(value)
    except ValueError:
        raise InvalidInput(f"{name}={value[:40]!r}: a number is needed, or nothing") from None
