"""Route of embeddings: unit vectors of texts and images, if a matching model is loaded."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from ..errors import BliplineError
from ..gateway.auth import request_tenant
from ..gateway.state import Gateway, gateway_of
from ..gateway.task_fields import EmbedFields
from ..gateway.tenants import Tenant
from ..ledger.data_url import is_data_url
from .errors import OpenAIError
from .jobs import AwaitedJob, output_of, read_parameters, submit
from .parameters import MODEL, check_model, check_names, invalid_type, required, unsupported

router = APIRouter()

#: Maximum inputs of a request: each is a job.
MAX_INPUTS: Final = 256
_KNOWN: Final = frozenset({"dimensions", "encoding_format", "input", "model", "user"})
_USAGE: Final = {"prompt_tokens": 0, "total_tokens": 0}


@router.post("/openai/v1/embeddings", include_in_schema=False)
async def create_embeddings(request: Request) -> Response:
    """Embed texts, and images as `data:` URLs."""
    gateway, tenant = gateway_of(request), request_tenant(request)
    async with read_parameters(request) as parameters:
        check_model(parameters)
        check_names(parameters, _KNOWN)
        encoding = _encoding(parameters)
        inputs = _inputs(required(parameters, "input"))
        jobs = await _submit_all(gateway, tenant, inputs)
    vectors = await _vectors(gateway, jobs)
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _as_base64(vector) if encoding == "base64" else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    body = {"object": "list", "data": data, "model": MODEL, "usage": _USAGE}
    return Response(json.dumps(body), media_type="application/json")


def _encoding(parameters: Mapping[str, Any]) -> str:
    if "dimensions" in parameters:
        message = "'dimensions' is not supported: the model determines the length of the vectors"
        raise unsupported("dimensions", message)
    encoding = parameters.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        message = f"'encoding_format' must be 'float' or 'base64', not {encoding!r:.100}"
        raise OpenAIError(message, param="encoding_format")
    return str(encoding)


def _inputs(source: Any) -> list[str]:
    """Return the texts of `input`; raises OpenAIError."""
    inputs = [source] if isinstance(source, str) else source
    if not isinstance(inputs, list):
        raise invalid_type("input", "a string or an array of strings", source)
    if not 0 < len(inputs) <= MAX_INPUTS:
        message = f"'input' must contain 1 to {MAX_INPUTS} texts, not {len(inputs):,}"
        raise OpenAIError(message, param="input")
    for index, text in enumerate(inputs):
        if not isinstance(text, str):
            raise invalid_type(f"input[{index}]", "a string; tokens are not supported", text)
    return inputs


async def _submit_all(gateway: Gateway, tenant: Tenant, inputs: Sequence[str]) -> list[AwaitedJob]:
    """Submit a job for each input; cancel all if an input is refused."""
    outcomes = await asyncio.gather(
        *(_submit(gateway, tenant, index, text) for index, text in enumerate(inputs)),
        return_exceptions=True,
    )
    jobs = [outcome for outcome in outcomes if isinstance(outcome, AwaitedJob)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if errors:
        await _cancel(jobs)
        raise errors[0]
    return jobs


async def _submit(gateway: Gateway, tenant: Tenant, index: int, text: str) -> AwaitedJob:
    name = "image" if is_data_url(text) else "text"
    return await submit(gateway, tenant, EmbedFields, {name: text}, param=f"input[{index}]")


async def _vectors(gateway: Gateway, jobs: Sequence[AwaitedJob]) -> list[list[float]]:
    """Return the vectors in order; cancel the other jobs if one fails."""
    outcomes = [asyncio.create_task(output_of(gateway, job)) for job in jobs]
    try:
        return [(result.embedding or []) for result in await asyncio.gather(*outcomes)]
    except BaseException:
        for outcome in outcomes:
            outcome.cancel()
        await _cancel(jobs)
        raise


async def _cancel(jobs: Sequence[AwaitedJob]) -> None:
    """Cancel jobs; those that have ended do not change."""
    with suppress(BliplineError):
        await asyncio.gather(*(submitted.job.cancel() for submitted in jobs))


def _as_base64(vector: Sequence[float]) -> str:
    """Return 32-bit floats in little-endian order as base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
