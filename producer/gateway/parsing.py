"""The body of a job, read strictly: what is wrong with it is told in the words of the request."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from ..contract import Task
from ..shown import shown
from ..wrong import MAX_PROBLEMS
from .problems import Problem
from .requests import Asked, JobRequest

#: Bytes of a job's body at most, its image left out.
MAX_ASIDE_BYTES: Final = 2**20

_DATA_URL: Final = re.compile(rb'"data:[^"]*"', re.IGNORECASE)
_JOB: Final[TypeAdapter[Asked]] = TypeAdapter(JobRequest)
#: Where URLs stand, which often carry a secret.
_SECRETIVE: Final = ("image", "webhook")
_TASKS: Final = ", ".join(task.short for task in Task)


def parse_job(body: bytes) -> Asked:
    """Read a job; raises Problem where it is no JSON, RequestValidationError where it is no job."""
    _check_size(body)
    try:
        asked = _JOB.validate_json(body)
    except ValidationError as error:
        raise _wrong(error) from None
    # Other programs take the first of two equal names, or the last: nobody should have to guess.
    json.loads(body, object_pairs_hook=_refuse_twins)
    return asked


def schemas(ref_template: str) -> dict[str, Any]:
    """JSON Schema of all that a job may be made of, by name."""
    found: dict[str, Any] = _JOB.json_schema(ref_template=ref_template)["$defs"]
    return found


def _check_size(body: bytes) -> None:
    """Small things take many times their place once they are read; a long string does not."""
    if len(body) <= MAX_ASIDE_BYTES:
        return
    longest = max((len(found[0]) for found in _DATA_URL.finditer(body)), default=0)
    if len(body) - longest > MAX_ASIDE_BYTES:
        raise Problem(
            "body_too_large",
            f"A job may have {MAX_ASIDE_BYTES:,} bytes beside a data: URL as its image",
        )


def _refuse_twins(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    twin = next((name for name in names if names.count(name) > 1), None)
    if twin is not None:
        raise Problem("bad_request", f"{twin!r:.100} stands twice in one object")


def _wrong(error: ValidationError) -> Exception:
    if (count := error.error_count()) > MAX_PROBLEMS:
        return Problem("option_invalid", f"{count:,} things are wrong with the job")
    found = error.errors(include_url=False)
    if found[0]["type"] == "json_invalid":
        return Problem("bad_request", f"The body is not JSON: {found[0]['ctx']['error']}")
    return RequestValidationError([_located(dict(one)) for one in found])


def _located(found: dict[str, Any]) -> dict[str, Any]:
    """What is wrong, in the words of the request, and without what is secret in it."""
    if found["type"] == "union_tag_not_found":
        return {"type": "missing", "loc": ("body", "task"), "msg": "is missing", "input": None}
    if found["type"] == "union_tag_invalid":
        about = f"choose one of {_TASKS}"
        return {"type": "enum", "loc": ("body", "task"), "msg": about, "input": found["ctx"]["tag"]}
    given = found["input"]
    # The first step into the body is the name of the task.
    found["loc"] = ("body", *found["loc"][1:])
    if isinstance(given, str) and found["loc"][-1] in _SECRETIVE:
        found["input"] = shown(given)
    return found
