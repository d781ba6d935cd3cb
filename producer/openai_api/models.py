"""Routes of models: there is one, the workers' own, whose name the gateway does not know."""

from __future__ import annotations

import json
from typing import Final

from fastapi import APIRouter, Response

from .parameters import MODEL, model_not_found

router = APIRouter()

#: The time of the first release, in Unix seconds.
_CREATED: Final = 1795219200
_MODEL_BODY: Final = {
    "id": MODEL,
    "object": "model",
    "created": _CREATED,
    "owned_by": "blipline",
}


@router.get("/openai/v1/models", include_in_schema=False)
async def list_models() -> Response:
    """List the models."""
    body = {"object": "list", "data": [_MODEL_BODY]}
    return Response(json.dumps(body), media_type="application/json")


@router.get("/openai/v1/models/{model:path}", include_in_schema=False)
async def get_model(model: str) -> Response:
    """Return a model."""
    if model != MODEL:
        raise model_not_found(model)
    return Response(json.dumps(_MODEL_BODY), media_type="application/json")
