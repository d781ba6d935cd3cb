"""Lines of a file of requests: each is a chat completion, and becomes an item of a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from fastapi.exceptions import RequestValidationError

from ..contract import MAX_CUSTOM_ID_CHARS, ErrorCode, failure
from ..errors import InvalidInput
from ..gateway.access.image_access import ImageAccess
from ..gateway.http.problems import Problem, as_problem
from ..gateway.images.image_refs import resolve_item
from ..gateway.jobs.json_body import parse_object
from ..gateway.jobs.request_body import parse_task_fields
from ..gateway.schemas.task_fields import TaskFields
from .chat import task_of
from .choices import ChoiceFormat
from .errors import OpenAIError

#: The endpoint of the requests.
ENDPOINT: Final = "/v1/chat/completions"
#: Maximum lines of a file.
MAX_LINES: Final = 50_000


class RequestLines:
    """The requests of a file. All have the same form of choices, that of the first valid one.

    Raises OpenAIError if the file has no lines, or too many.
    """

    def __init__(self, data: bytes, max_image_bytes: int, access: ImageAccess) -> None:
        self._lines = [
            line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()
        ]
        self._max_image_bytes = max_image_bytes
        self._access = access
        if not 0 < len(self._lines) <= MAX_LINES:
            raise OpenAIError(
                f"A file has 1 to {MAX_LINES:,} lines, each with a request; this one has "
                f"{len(self._lines):,}",
                code="invalid_file",
                param="input_file_id",
            )

    def options(self) -> tuple[dict[str, Any], ChoiceFormat]:
        """Return the generation options and the form of the first valid request."""
        for line in self._lines:
            try:
                _, fields, form = _parse(line)
                return fields.given_options(), form
            except (Problem, OpenAIError, RequestValidationError):
                continue
        return {}, ChoiceFormat()

    def items(self) -> Iterator[dict[str, Any]]:
        """Yield an item for each request; that of an invalid one has an error."""
        common, form = self.options()
        for number, line in enumerate(self._lines, start=1):
            custom_id = _custom_id(line)
            known = {} if custom_id is None else {"custom_id": custom_id}
            try:
                _, fields, own_form = _parse(line)
                if own_form != form:
                    raise OpenAIError(
                        "stop and logprobs differ from those of the first request: all requests "
                        "of a batch have the same ones"
                    )
            except (Problem, OpenAIError, RequestValidationError, InvalidInput) as error:
                yield {**known, **failure(ErrorCode.OPTION_INVALID, _message(number, error))}
            else:
                yield self._item(fields, known, common)

    def stop(self) -> None:
        """Do nothing: the items do not wait."""

    def _item(
        self, fields: TaskFields, known: dict[str, str], common: dict[str, Any]
    ) -> dict[str, Any]:
        item = {**fields.item(), **known, "task": fields.contract_task.short}
        if (own := fields.given_options()) != common:
            item["options"] = fields.options_of(common.keys() | own.keys())
        return resolve_item(item, self._max_image_bytes, self._access)


def _parse(line: bytes) -> tuple[str, TaskFields, ChoiceFormat]:
    """Return the id, the fields and the form of a request.

    Raises Problem and others for an invalid one.
    """
    request = parse_object(line)
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_CUSTOM_ID_CHARS:
        raise OpenAIError(f"custom_id: a text of 1 to {MAX_CUSTOM_ID_CHARS} characters is needed")
    if request.get("method", "POST") != "POST" or request.get("url") != ENDPOINT:
        raise OpenAIError(f"method and url must be POST and {ENDPOINT}")
    body = request.get("body")
    if not isinstance(body, dict):
        raise OpenAIError("body: the parameters of a chat completion are needed")
    parameters = {name: value for name, value in body.items() if value is not None}
    if parameters.get("stream") or "deadline_s" in parameters:
        raise OpenAIError("'stream' and 'deadline_s' are not supported in a batch; omit them")
    form = ChoiceFormat.of(parameters)
    model, fields = task_of(parameters)
    return custom_id, parse_task_fields(model, json.dumps(fields).encode()), form


def _custom_id(line: bytes) -> str | None:
    """Return the id of a request that may be invalid otherwise."""
    try:
        custom_id = json.loads(line)["custom_id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    is_valid = isinstance(custom_id, str) and 0 < len(custom_id) <= MAX_CUSTOM_ID_CHARS
    return custom_id if is_valid else None


def _message(number: int, error: Exception) -> str:
    text = str(error) if isinstance(error, OpenAIError) else str(as_problem(error).detail)
    return f"line {number}: {text}"
