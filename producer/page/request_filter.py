"""What the page's own requests say, and what they may say of files.

Gradio downloads what a request calls a file and gives a URL for, on the server, whether the page
offers that or not. Here a file is one that the same person uploaded, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import gradio as gr
from starlette.requests import Request

from .ownership import Ownership

#: What a request of the page says; what else Gradio would hear is dropped.
_SAID: Final = ("data", "event_data", "fn_index", "session_hash", "trigger_id")
#: Seconds for the body of a request that is no upload: a moment's worth of bytes.
BODY_S = 30.0


class TooSlow(Exception):
    """The body of a request takes too long to come; the message says so."""


class Forbidden(Exception):
    """The request names what is not its sender's; the message says what."""


def checked(body: bytes, name: str, holdings: Ownership, inputs: Inputs) -> bytes:
    """The request's JSON, with every file in it known to be `name`'s; raises Forbidden."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise Forbidden("the request is not JSON") from None
    if not isinstance(request, dict):
        raise Forbidden("the request is not an object")
    page = request.get("session_hash")
    if not isinstance(page, str) or not holdings.may_use(page, name):
        raise Forbidden("this page is somebody else's: reload it")
    _check_data(request, inputs)
    _check_files(request, name, holdings)
    return json.dumps({word: request[word] for word in _SAID if word in request}).encode()


async def body_of(request: Request, max_bytes: int) -> bytes | None:
    """The whole body of a request; None where it is larger. Raises TooSlow."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > max_bytes:
                    return None
    except TimeoutError:
        raise TooSlow(f"the request did not come within {BODY_S:g} s: try again") from None
    return bytes(body)


def _check_data(request: dict[str, Any], inputs: Inputs) -> None:
    pressed, data = request.get("fn_index"), request.get("data")
    # True is 1 to a mapping.
    fits = inputs.get(pressed) if type(pressed) is int else None
    if fits is None or not isinstance(data, list) or len(data) != len(fits):
        raise Forbidden("the page has no such button: reload it")
    if not all(fit(value) for fit, value in zip(fits, data, strict=True)):
        raise Forbidden("a field of the page holds no such value: reload it")


def _check_files(request: dict[str, Any], name: str, holdings: Ownership) -> None:
    # Gradio finds files at any depth.
    todo: list[Any] = [request]
    while todo:
        value = todo.pop()
        if isinstance(value, list):
            todo += value
        elif isinstance(value, dict):
            todo += value.values()
            if "path" in value and not _is_own(value["path"], name, holdings):
                raise Forbidden("no such file was uploaded from here: upload it again")
            # Where the browser shows it from; the server has no use for it.
            value.pop("url", None)


def _is_own(path: Any, name: str, holdings: Ownership) -> bool:
    return isinstance(path, str) and holdings.may_read(path, name)


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
