"""What each button of the page sends, in the order of its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import gradio as gr

#: Whether a value can be a field's.
Fits = Callable[[Any], bool]
#: The fields of each function, by Gradio's number for it.
Inputs = Mapping[int, Sequence[Fits]]


def inputs_of(blocks: Any) -> Inputs:
    """What a page sends; raises KeyError where it has a kind of field that is not known here."""
    return {
        number: [_FITS[type(field)] for field in function.inputs]
        for number, function in blocks.fns.items()
    }


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_file(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and "path" in value)


def _is_files(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(one is not None and _is_file(one) for one in value)
    )


def _is_nothing(value: Any) -> bool:
    return value is None


_FITS: Final[Mapping[type, Fits]] = {
    gr.Textbox: _is_text,
    gr.Radio: _is_text,
    gr.Number: _is_number,
    gr.Image: _is_file,
    gr.File: _is_files,
    # Gradio keeps it.
    gr.State: _is_nothing,
}
