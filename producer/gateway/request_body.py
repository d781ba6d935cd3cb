"""Bodies that are needed as a whole, in bounded memory however many come at once."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, ParamSpec, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers

from ..contract import Task
from ..net.redact import redact_url
from ..validation import MAX_PROBLEMS
from .problems import Problem
from .requests import JobRequest, JobRequestBase

#: Bytes of bodies that this process holds at once at most; of one name, half as many.
MAX_HELD_BYTES: Final = 256 * 2**20
#: Bytes of a body that is let in whatever those of others hold.
SMALL_BYTES: Final = 2**20
#: Seconds for a whole body to come in.
READ_S: Final = 300.0
#: Seconds without anything of a body after which it is given up: it holds memory, or a thread.
SILENT_S: Final = 60.0
#: Bytes from which on work on a body would hold up everybody else.
LARGE_BYTES: Final = 2**18

P = ParamSpec("P")
R = TypeVar("R")


class BodyReader:
    """Counts the bytes of all bodies that one process holds, and whose they are."""

    def __init__(
        self,
        max_held_bytes: int = MAX_HELD_BYTES,
        small_bytes: int = SMALL_BYTES,
        read_s: float = READ_S,
        silent_s: float = SILENT_S,
    ) -> None:
        self._held: Counter[str] = Counter()
        self._max_held_bytes = max_held_bytes
        self._small_bytes = small_bytes
        self._read_s = read_s
        self._silent_s = silent_s

    @property
    def held_bytes(self) -> int:
        """Of all names."""
        return self._held.total()

    @asynccontextmanager
    async def whole(self, name: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """A name's body, which counts as held within the block; raises Problem.

        How large a single one may be is seen to before (bounds.py).
        """
        parts: list[bytes] = []
        try:
            await self._collect(name, chunks, parts)
            # Not twice.
            parts[:] = [b"".join(parts)]
            yield parts[0]
        finally:
            self._held[name] -= sum(map(len, parts))
            if not self._held[name]:
                del self._held[name]

    async def _collect(self, name: str, chunks: AsyncIterator[bytes], parts: list[bytes]) -> None:
        size = 0
        try:
            async with asyncio.timeout(self._read_s):
                async for chunk in with_idle_timeout(chunks, self._silent_s):
                    parts.append(chunk)
                    size += len(chunk)
                    self._held[name] += len(chunk)
                    self._check_held(name, size)
        except TimeoutError:
            about = f"The body has not come within {self._read_s:g} s"
            raise Problem("request_timeout", about) from None

    def _check_held(self, name: str, size: int) -> None:
        is_full = size > self._small_bytes and self.held_bytes > self._max_held_bytes
        # However small they are: others could not send any.
        if is_full or self._held[name] > self._max_held_bytes // 2:
            raise Problem(
                "unavailable",
                "Too many large bodies come in at this moment: try again",
                retry_after_s=1,
            )


async def with_idle_timeout(pieces: AsyncIterator[bytes], longest_s: float) -> AsyncIterator[bytes]:
    """The same, or a Problem once nothing came for so long: it holds up others."""
    while True:
        try:
            async with asyncio.timeout(longest_s):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            about = f"Nothing more of the body came within {longest_s:g} s"
            raise Problem("request_timeout", about) from None
        if piece:
            yield piece


def check_identity(headers: Headers) -> None:
    """Refuse bodies that are compressed; raises Problem."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Problem(
            "unsupported_media_type", f"Content-Encoding {encoding!r:.40}: send it as it is"
        )


def media_type(headers: Headers) -> str:
    """What the body is, without parameters; '' where nothing is said."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def run_if_large(size: int, act: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call it, in a thread where so many bytes would take long."""
    if size < LARGE_BYTES:
        return act(*args, **kwargs)
    return await asyncio.to_thread(act, *args, **kwargs)


#: Bytes of a job's body at most, its image left out.
MAX_ASIDE_BYTES: Final = 2**20

_DATA_URL: Final = re.compile(rb'"data:[^"]*"', re.IGNORECASE)
_JOB: Final[TypeAdapter[JobRequestBase]] = TypeAdapter(JobRequest)
#: Where URLs stand, which often carry a secret.
_SECRETIVE: Final = ("image", "webhook")
_TASKS: Final = ", ".join(task.short for task in Task)


def parse_job(body: bytes) -> JobRequestBase:
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
        found["input"] = redact_url(given)
    return found
