"""Bodies of jobs and images: read as a whole within a memory limit, and parsed strictly."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, ParamSpec, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers

from ...contract import Task
from ...errors import InvalidInput
from ...net.redact import redact_url
from ...validation import MAX_PROBLEMS, unique_names
from ..http.problems import Problem
from ..schemas.requests import JobRequest
from ..schemas.task_fields import TASK_MODELS, TaskFields

#: Maximum bytes of all bodies in memory; a tenant may use half of them.
MAX_BUFFERED_BYTES: Final = 256 * 2**20
#: Maximum bytes of a body that is accepted although other bodies exceed the limit.
SMALL_BYTES: Final = 2**20
#: Timeout for a whole body, in seconds.
READ_TIMEOUT_S: Final = 300.0
#: Timeout between two pieces of a body, in seconds: the request occupies memory or a thread.
IDLE_TIMEOUT_S: Final = 60.0
#: Minimum bytes of a body that is processed in a thread, as it would block the event loop.
LARGE_BYTES: Final = 2**18
#: Maximum bytes of a job's body without its image.
MAX_JOB_BYTES: Final = 2**20

#: An image within JSON: a `data:` URL, or the value of `image`; `inputs` in another API.
_IMAGE_VALUE: Final = re.compile(rb'"(?:image|inputs)"\s*:\s*"[^"]*"|"data:[^"]*"', re.IGNORECASE)
_JOB: Final[TypeAdapter[TaskFields]] = TypeAdapter(JobRequest)
_FIELDS: Final[Mapping[type[TaskFields], TypeAdapter[TaskFields]]] = {
    model: TypeAdapter(model) for model in TASK_MODELS.values()
}
#: Fields with URLs, which often contain secrets.
_URL_FIELDS: Final = ("image", "webhook")
_TASKS: Final = ", ".join(task.short for task in Task)

P = ParamSpec("P")
R = TypeVar("R")


class BodyReader:
    """A reader of bodies that counts the buffered bytes of each tenant."""

    def __init__(
        self,
        max_buffered_bytes: int = MAX_BUFFERED_BYTES,
        small_bytes: int = SMALL_BYTES,
        read_timeout_s: float = READ_TIMEOUT_S,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        self._buffered: Counter[str] = Counter()
        self._max_buffered_bytes = max_buffered_bytes
        self._small_bytes = small_bytes
        self._read_timeout_s = read_timeout_s
        self._idle_timeout_s = idle_timeout_s

    @property
    def buffered_bytes(self) -> int:
        """Buffered bytes of all tenants."""
        return self._buffered.total()

    @asynccontextmanager
    async def read(self, tenant: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Read a tenant's body, which counts as buffered within the block; raises Problem.

        `BodyLimitMiddleware` limits the size of a single body.
        """
        parts: list[bytes] = []
        try:
            await self._collect(tenant, chunks, parts)
            # Replaces the parts, so that the body is in memory once.
            parts[:] = [b"".join(parts)]
            yield parts[0]
        finally:
            self._buffered[tenant] -= sum(map(len, parts))
            if not self._buffered[tenant]:
                del self._buffered[tenant]

    async def _collect(self, tenant: str, chunks: AsyncIterator[bytes], parts: list[bytes]) -> None:
        size = 0
        try:
            async with asyncio.timeout(self._read_timeout_s):
                async for chunk in with_idle_timeout(chunks, self._idle_timeout_s):
                    parts.append(chunk)
                    size += len(chunk)
                    self._buffered[tenant] += len(chunk)
                    self._check_limits(tenant, size)
        except TimeoutError:
            detail = f"The body did not arrive within {self._read_timeout_s:g} s"
            raise Problem("request_timeout", detail) from None

    def _check_limits(self, tenant: str, size: int) -> None:
        is_full = size > self._small_bytes and self.buffered_bytes > self._max_buffered_bytes
        # The tenant's limit applies to small bodies as well: one tenant must not block all others.
        if is_full or self._buffered[tenant] > self._max_buffered_bytes // 2:
            raise Problem(
                "unavailable",
                "Too many large bodies are being received: try again",
                retry_after_s=1,
            )


async def with_idle_timeout(
    pieces: AsyncIterator[bytes], idle_timeout_s: float
) -> AsyncIterator[bytes]:
    """Yield the pieces of a body; raises Problem if none arrives for `idle_timeout_s`."""
    while True:
        try:
            async with asyncio.timeout(idle_timeout_s):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            detail = f"No further part of the body arrived within {idle_timeout_s:g} s"
            raise Problem("request_timeout", detail) from None
        if piece:
            yield piece


def reject_compressed(headers: Headers) -> None:
    """Reject compressed bodies; raises Problem."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        detail = f"Content-Encoding {encoding!r:.40}: send the body uncompressed"
        raise Problem("unsupported_media_type", detail)


def media_type(headers: Headers) -> str:
    """Return the media type of the body without parameters; empty if there is none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def run_if_large(
    size: int, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    """Call a function, in a thread if it processes LARGE_BYTES or more."""
    if size < LARGE_BYTES:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


def is_json(kind: str) -> bool:
    """Return whether a media type is that of JSON."""
    return kind == "application/json" or kind.endswith("+json")


def parse_job(body: bytes) -> TaskFields:
    """Parse a job; raises Problem for invalid JSON, RequestValidationError for an invalid job."""
    # The first part of the location of an error is the name of the task.
    return _parse(_JOB, body, tag_parts=1)


def parse_task_fields(model: type[TaskFields], body: bytes) -> TaskFields:
    """Parse the fields of a task, as `parse_job` does."""
    return _parse(_FIELDS[model], body, tag_parts=0)


def request_error(error: ValidationError, tag_parts: int = 0) -> Exception:
    """Return the exception for invalid fields of a job, which names each of them."""
    if (count := error.error_count()) > MAX_PROBLEMS:
        return Problem("option_invalid", f"The job has {count:,} errors")
    details = error.errors(include_url=False)
    if details[0]["type"] == "json_invalid":
        return Problem("bad_request", f"The body is not JSON: {details[0]['ctx']['error']}")
    return RequestValidationError([_request_detail(dict(item), tag_parts) for item in details])


def _parse(adapter: TypeAdapter[TaskFields], body: bytes, tag_parts: int) -> TaskFields:
    check_job_bytes(body)
    try:
        request = adapter.validate_json(body)
    except ValidationError as error:
        raise request_error(error, tag_parts) from None
    try:
        json.loads(body, object_pairs_hook=unique_names)
    except InvalidInput as error:
        raise Problem("bad_request", str(error)) from None
    return request


def job_schemas(ref_template: str) -> dict[str, Any]:
    """Return the JSON Schemas of a job's models, by name."""
    _, schemas = TypeAdapter.json_schemas(
        [(key, "validation", adapter) for key, adapter in enumerate((_JOB, *_FIELDS.values()))],
        ref_template=ref_template,
    )
    models: dict[str, Any] = schemas["$defs"]
    return models


def check_job_bytes(body: bytes, images: int | None = 1) -> None:
    """Limit a body without its images: parsed small values use many times their size.

    The longest `images` do not count, or all of them. Raises Problem.
    """
    if len(body) <= MAX_JOB_BYTES:
        return
    sizes = sorted((len(match[0]) for match in _IMAGE_VALUE.finditer(body)), reverse=True)
    if len(body) - sum(sizes[:images]) > MAX_JOB_BYTES:
        raise Problem(
            "body_too_large",
            f"A job may have {MAX_JOB_BYTES:,} bytes in addition to an image as a data: URL",
        )


def _request_detail(detail: dict[str, Any], tag_parts: int) -> dict[str, Any]:
    """Return an error with the location in the request and without secrets of URLs."""
    if detail["type"] == "union_tag_not_found":
        return {"type": "missing", "loc": ("body", "task"), "msg": "is missing", "input": None}
    if detail["type"] == "union_tag_invalid":
        message, tag = f"choose one of {_TASKS}", detail["ctx"]["tag"]
        return {"type": "enum", "loc": ("body", "task"), "msg": message, "input": tag}
    detail["loc"] = ("body", *detail["loc"][tag_parts:])
    if isinstance(detail["input"], str) and detail["loc"][-1] in _URL_FIELDS:
        detail["input"] = redact_url(detail["input"])
    return detail
