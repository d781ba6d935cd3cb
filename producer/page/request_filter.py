"""A filter for the bodies of Gradio's requests: known fields, valid values, own files.

Gradio downloads every URL that a request declares as a file, whether the page offers that or not.
The filter therefore accepts only files that the same tenant uploaded (SSRF, path traversal), only
functions and values that the page itself can send, and drops all other fields.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import gradio as gr
from starlette.requests import Request

from .ownership import Ownership

#: Fields of a request that Gradio receives.
_FIELDS: Final = ("data", "event_data", "fn_index", "session_hash", "trigger_id")
#: Seconds within which a request body must arrive, uploads excepted.
BODY_S = 30.0

#: Returns whether an input component can have this value.
Validator = Callable[[Any], bool]
#: The validators of each function's inputs, by Gradio's number of the function.
Validators = Mapping[int, Sequence[Validator]]


class BodyTimeout(Exception):
    """A request body that did not arrive before the deadline."""


class Forbidden(Exception):
    """A request that names a page, file, function or value which the sender may not use."""


async def read_body(request: Request, max_bytes: int) -> bytes | None:
    """Read a request body; return None if it is larger than `max_bytes`. Raises BodyTimeout."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > max_bytes:
                    return None
    except TimeoutError:
        raise BodyTimeout(
            f"the request body did not arrive within {BODY_S:g} s: try again"
        ) from None
    return bytes(body)


def filter_request(body: bytes, name: str, ownership: Ownership, validators: Validators) -> bytes:
    """Check a tenant's request and return it with the known fields only; raises Forbidden."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise Forbidden("the request is not JSON") from None
    if not isinstance(request, dict):
        raise Forbidden("the request is not a JSON object")
    page = request.get("session_hash")
    if not isinstance(page, str) or not ownership.may_use(page, name):
        raise Forbidden("this page belongs to another user: reload it")
    _check_data(request, validators)
    _check_files(request, name, ownership)
    return json.dumps({field: request[field] for field in _FIELDS if field in request}).encode()


def validators_of(blocks: Any) -> Validators:
    """Return the validators of a page; raises KeyError if an input component has none."""
    return {
        number: [_VALIDATORS[type(component)] for component in function.inputs]
        for number, function in blocks.fns.items()
    }


def _check_data(request: dict[str, Any], validators: Validators) -> None:
    number, data = request.get("fn_index"), request.get("data")
    # Not isinstance: a mapping takes True for 1.
    expected = validators.get(number) if type(number) is int else None
    if expected is None or not isinstance(data, list) or len(data) != len(expected):
        raise Forbidden("the page has no such function: reload it")
    if not all(is_valid(value) for is_valid, value in zip(expected, data, strict=True)):
        raise Forbidden("a field has an invalid value: reload the page")


def _check_files(request: dict[str, Any], name: str, ownership: Ownership) -> None:
    # At any depth, as Gradio looks for files at any depth.
    unchecked: list[Any] = [request]
    while unchecked:
        value = unchecked.pop()
        if isinstance(value, list):
            unchecked += value
        elif isinstance(value, dict):
            unchecked += value.values()
            if "path" in value and not _is_own(value["path"], name, ownership):
                raise Forbidden("you have not uploaded this file: upload it again")
            # The browser's own link to the file; the server does not need it.
            value.pop("url", None)


def _is_own(path: Any, name: str, ownership: Ownership) -> bool:
    return isinstance(path, str) and ownership.may_read(path, name)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_file(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and "path" in value)


def _is_file_list(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(file is not None and _is_file(file) for file in value)
    )


def _is_none(value: Any) -> bool:
    return value is None


_VALIDATORS: Final[Mapping[type, Validator]] = {
    gr.Textbox: _is_text,
    gr.Radio: _is_text,
    gr.Number: _is_number,
    gr.Image: _is_file,
    gr.File: _is_file_list,
    # Gradio keeps a state on the server.
    gr.State: _is_none,
}
