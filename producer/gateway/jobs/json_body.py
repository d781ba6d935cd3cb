"""JSON objects as the bodies of other APIs, parsed as strictly as those of the gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request

from ...errors import InvalidInput
from ...validation import unique_names
from ..access.auth import request_tenant
from ..http.problems import Problem
from ..state import gateway_of
from .request_body import check_job_bytes, is_json, media_type, reject_compressed, run_if_large


@asynccontextmanager
async def read_object(request: Request) -> AsyncIterator[dict[str, Any]]:
    """Read the object of a request, whose body counts as buffered within the block.

    Raises Problem.
    """
    reject_compressed(request.headers)
    kind = media_type(request.headers)
    if not is_json(kind):
        detail = f"Content-Type {kind!r:.100}: application/json is required"
        raise Problem("unsupported_media_type", detail)
    reader, tenant = gateway_of(request).body_reader, request_tenant(request)
    async with reader.read(tenant.name, request.stream()) as body:
        yield await run_if_large(len(body), parse_object, body)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the fields of an object, without those that are null; raises Problem."""
    check_job_bytes(body, images=None)
    try:
        fields = json.loads(
            body.decode(), object_pairs_hook=unique_names, parse_constant=_no_constant
        )
    except InvalidInput as error:
        raise Problem("bad_request", str(error)) from None
    except (ValueError, RecursionError) as error:
        raise Problem("bad_request", f"The body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Problem("bad_request", "The body must be a JSON object")
    return {name: value for name, value in fields.items() if value is not None}


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
