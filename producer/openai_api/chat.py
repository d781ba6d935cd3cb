"""Route of chat completions: a caption, an answer, or the next answer of a dialogue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from ..gateway.access.auth import request_tenant
from ..gateway.jobs.awaited_jobs import output_of
from ..gateway.jobs.json_body import read_object
from ..gateway.schemas.task_fields import CaptionFields, ChatFields, TaskFields, VqaFields
from ..gateway.state import gateway_of
from .chat_stream import stream_completion
from .choices import ChoiceFormat
from .completion import ChatCompletion
from .dialogue import MessageDialogue
from .jobs import submit
from .parameters import (
    IGNORED,
    MAX_TOKENS,
    OPTIONS,
    boolean,
    check_model,
    check_names,
    generation_options,
    invalid_type,
    required,
)

router = APIRouter()

#: Fields of the gateway's own requests, as extensions.
_FIELDS: Final = frozenset({"adapter", "deadline_s"})
_KNOWN: Final = (
    IGNORED
    | OPTIONS
    | _FIELDS
    | {*MAX_TOKENS, "logprobs", "messages", "model", "n", "stream", "stream_options"}
)


@router.post("/openai/v1/chat/completions", include_in_schema=False)
async def create_chat_completion(request: Request) -> Response:
    """Answer the last message of a dialogue about an image."""
    gateway, tenant = gateway_of(request), request_tenant(request)
    async with read_object(request) as parameters:
        model, fields = task_of(parameters)
        is_stream = boolean(parameters, "stream")
        include_usage, form = _include_usage(parameters), ChoiceFormat.of(parameters)
        if is_stream:
            fields["options"]["stream"] = True
        name = next((name for name in MAX_TOKENS if name in parameters), MAX_TOKENS[0])
        submitted = await submit(
            gateway, tenant, model, fields, param="messages", max_tokens_name=name
        )
    completion = ChatCompletion(
        f"chatcmpl-{submitted.public_id}", int(submitted.metadata.created_at), form
    )
    if is_stream:
        return await stream_completion(gateway, submitted, completion, include_usage=include_usage)
    body = completion.body(await output_of(gateway, submitted))
    return Response(json.dumps(body), media_type="application/json")


def task_of(parameters: Mapping[str, Any]) -> tuple[type[TaskFields], dict[str, Any]]:
    """Return the task of a completion and its fields; raises OpenAIError."""
    check_model(parameters)
    check_names(parameters, _KNOWN)
    dialogue = MessageDialogue.of(required(parameters, "messages"))
    fields: dict[str, Any] = {"image": dialogue.image, "options": generation_options(parameters)}
    fields |= {name: parameters[name] for name in _FIELDS if name in parameters}
    if not dialogue.question:
        return CaptionFields, fields
    fields["question"] = dialogue.question
    if not dialogue.history:
        return VqaFields, fields
    return ChatFields, fields | {"history": dialogue.history}


def _include_usage(parameters: Mapping[str, Any]) -> bool:
    options = parameters.get("stream_options", {})
    if not isinstance(options, dict):
        raise invalid_type("stream_options", "an object", options)
    return boolean({k: v for k, v in options.items() if v is not None}, "include_usage")
