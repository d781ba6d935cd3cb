"""Route of embeddings: unit vectors of texts and images, if a matching model is loaded."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from ..gateway.access.auth import request_tenant
from ..gateway.access.tenants import Tenant
from ..gateway.jobs.awaited_jobs import MAX_JOBS, AwaitedJob, outputs_of, submit_all
from ..gateway.jobs.json_body import read_object
from ..gateway.schemas.task_fields import EmbedFields
from ..gateway.state import Gateway, gateway_of
from ..ledger.data_url import is_data_url
from .errors import OpenAIError
from .jobs import submit
from .parameters import MODEL, check_model, check_names, invalid_type, required, unsupported

router = APIRouter()

_KNOWN: Final = frozenset({"dimensions", "encoding_format", "input", "model", "user"})
_USAGE: Final = {"prompt_tokens": 0, "total_tokens": 0}


@router.post("/openai/v1/embeddings", include_in_schema=False)
async def create_embeddings(request: Request) -> Response:
    """Embed texts, and images as `data:` URLs."""
    gateway, tenant = gateway_of(request), request_tenant(request)
    async with read_object(request) as parameters:
        check_model(parameters)
        check_names(parameters, _KNOWN)
        encoding = _encoding(parameters)
        inputs = _inputs(required(parameters, "input"))
        jobs = await submit_all(
            _submit(gateway, tenant, index, text) for index, text in enumerate(inputs)
        )
    vectors = [result.embedding or [] for result in await outputs_of(gateway, jobs)]
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
    if not 0 < len(inputs) <= MAX_JOBS:
        message = f"'input' must contain 1 to {MAX_JOBS} texts, not {len(inputs):,}"
        raise OpenAIError(message, param="input")
    for index, text in enumerate(inputs):
        if not isinstance(text, str):
            raise invalid_type(f"input[{index}]", "a string; tokens are not supported", text)
    return inputs


async def _submit(gateway: Gateway, tenant: Tenant, index: int, text: str) -> AwaitedJob:
    name = "image" if is_data_url(text) else "text"
    return await submit(gateway, tenant, EmbedFields, {name: text}, param=f"input[{index}]")


def _as_base64(vector: Sequence[float]) -> str:
    """Return 32-bit floats in little-endian order as base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
