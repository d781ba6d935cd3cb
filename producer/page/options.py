"""The generation options that the page offers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import gradio as gr

from ..errors import InvalidInput

#: A parameter of `submit` in addition to the options of the contract.
DEADLINE: Final = "deadline_s"
#: A field of the items, not an option.
ADAPTER: Final = "adapter"

#: Label, value and step by name. The contract checks the ranges.
FIELDS: Final[dict[str, tuple[str, float | None, float]]] = {
    "max_new_tokens": ("Maximum length (tokens)", 20, 1),
    "num_beams": ("Beams", 1, 1),
    "temperature": ("Temperature (0: greedy)", 0, 0.05),
    "top_p": ("Top p", 1, 0.05),
    "top_k": ("Top k (0: off)", 0, 1),
    "repetition_penalty": ("Repetition penalty", 1, 0.05),
    "seed": ("Seed", None, 1),
    DEADLINE: ("Deadline (seconds)", None, 1),
    ADAPTER: ("Adapter", None, 1),
}
_INTEGERS: Final = frozenset({"seed"})
_ASSIGNMENT: Final = re.compile(rf"\b({'|'.join(FIELDS)})=")


def option_fields() -> list[gr.components.Component]:
    """Build an input for each of FIELDS, in that order, with the contract's defaults."""
    fields: list[gr.components.Component] = []
    names = list(FIELDS)
    for first in range(0, len(names), 2):
        with gr.Row():
            fields += map(_field, names[first : first + 2])
    return fields


def parse_options(values: Sequence[Any]) -> dict[str, Any]:
    """Return the options for the client, without empty inputs; raises InvalidInput."""
    pairs = zip(FIELDS, values, strict=True)
    given = {name: value for name, value in pairs if value is not None and str(value).strip()}
    return {
        name: value if name == ADAPTER else _number(name, value) for name, value in given.items()
    }


def pop_adapter(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the adapter from options, and return it as a field of an item, if there is one."""
    return {ADAPTER: options.pop(ADAPTER).strip()} if ADAPTER in options else {}


def with_labels(message: str) -> str:
    """Replace option names in a message by their labels, without units."""
    return _ASSIGNMENT.sub(lambda match: f"{FIELDS[match[1]][0].partition(' (')[0]} = ", message)


def _field(name: str) -> gr.components.Component:
    label, value, step = FIELDS[name]
    common: dict[str, Any] = {"label": label, "elem_id": name.replace("_", "-"), "min_width": 100}
    if value is None:
        # gr.Number would show a missing number as 0.
        return gr.Textbox(placeholder="none", max_lines=1, **common)
    return gr.Number(value, step=step, minimum=0, **common)


def _number(name: str, value: Any) -> float:
    if not isinstance(value, str):
        return value  # type: ignore[no-any-return]
    try:
        return int(value) if name in _INTEGERS else float(value)
    except ValueError:
        raise InvalidInput(
            f"{name}={value[:40]!r}: enter a number or leave the field empty"
        ) from None
