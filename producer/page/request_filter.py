"""A filter for the bodies of Gradio's requests: known fields, valid values, own files.

Gradio downloads every URL that a request declares as a file, even if the page does not offer it.
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
    """The request body did not arrive before the deadline."""


class Forbidden(Exception):
    """The request names a page, file, function or value that the sender may not use."""


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


def filter_request(body: bytes, tenant: str, ownership: Ownership, validators: Validators) -> bytes:
    """Check a tenant's request and return only its known fields; raises Forbidden."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise Forbidden("the request is not JSON") from None
    if not isinstance(request, dict):
        raise Forbidden("the request is not a JSON object")
    session_hash = request.get("session_hash")
    if not isinstance(session_hash, str) or not ownership.may_use(session_hash, tenant):
        raise Forbidden("this page belongs to another user: reload it")
    _check_data(request, validators)
    _check_files(request, tenant, ownership)
    return json.dumps({field: request[field] for field in _FIELDS if field in request}).encode()


def validators_of(blocks: Any) -> Validators:
    """Return the validators of a page; raises KeyError if an input component has none."""
    return {
        number: [_VALIDATORS[type(component)] for component in function.inputs]
        for number, function in blocks.fns.items()
    }


def _check_data(request: dict[str, Any], validators: Validators) -> None:
    number, data = request.get("fn_index"), request.get("data")
    # Not isinstance: a mapping treats True as 1.
    expected = validators.get(number) if type(number) is int else None
    if expected is None or not isinstance(data, list) or len(data) != len(expected):
        raise Forbidden("the page does not have this function: reload it")
    if not all(is_valid(value) for is_valid, value in zip(expected, data, strict=True)):
        raise Forbidden("a field has an invalid value: reload the page")


def _check_files(request: dict[str, Any], tenant: str, ownership: Ownership) -> None:
    # Gradio searches for files at any depth, so this checks all depths.
    unchecked: list[Any] = [request]
    while unchecked:
        value = unchecked.pop()
        if isinstance(value, list):
            unchecked += value
        elif isinstance(value, dict):
            unchecked += value.values()
            if "path" in value and not _is_own(value["path"], tenant, ownership):
                raise Forbidden("you have not uploaded this file: upload it again")
            # This is the browser's link to the file; the server does not need it.
            value.pop("url", None)


def _is_own(path: Any, tenant: str, ownership: Ownership) -> bool:
    return isinstance(path, str) and ownership.may_read(path, tenant)


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
    # Gradio stores a state on the server.
    gr.State: _is_none,
}
