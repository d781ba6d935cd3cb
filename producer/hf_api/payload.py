"""Bodies of this API: the bytes of an image, or JSON with `inputs` and `parameters`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

from fastapi import Request

from ..gateway.access.auth import request_tenant
from ..gateway.jobs.json_body import parse_object
from ..gateway.jobs.request_body import is_json, media_type, reject_compressed, run_if_large
from ..gateway.state import gateway_of
from .errors import invalid

#: Names beside `inputs` and `parameters`; `options` are those of Hugging Face's own servers.
_ROOT_NAMES: Final = frozenset({"inputs", "parameters", "options", "question", "image"})


@dataclass(frozen=True, slots=True)
class TaskPayload:
    """The input of a task, and its parameters without those that are null."""

    inputs: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    #: Bytes of the image if they are the whole body.
    image: bytes | None = None
    #: True if the body has `parameters`, even without any of them.
    has_parameters: bool = False

    @classmethod
    def of_body(cls, body: bytes, kind: str) -> Self:
        """Read a body of a media type; raises Problem."""
        # curl declares JSON as a form, and the library declares no type of some images.
        if not is_json(kind) and body.lstrip()[:1] != b"{":
            return cls(image=body)
        return cls.of_object(parse_object(body))

    @classmethod
    def of_object(cls, root: Mapping[str, Any]) -> Self:
        """Read a JSON object; raises Problem.

        The library sends the question of `visual_question_answering` and the parameters of
        `feature_extraction` beside `inputs`.
        """
        inputs, parameters = root.get("inputs"), root.get("parameters", {})
        if not isinstance(parameters, dict):
            raise invalid("parameters", "must be an object")
        if "question" in root:
            image = root.get("image", inputs)
            inputs = {"image": image, "question": root["question"]}
        if inputs is None:
            raise invalid("inputs", "is missing")
        beside = {name: value for name, value in root.items() if name not in _ROOT_NAMES}
        given = {name: value for name, value in parameters.items() if value is not None}
        return cls(inputs, {**beside, **given}, has_parameters="parameters" in root)

    def task_name(self) -> str:
        """Return the task that the library means: it sends all tasks of a URL to the URL itself."""
        if isinstance(self.inputs, dict):
            return "visual-question-answering"
        if "candidate_labels" in self.parameters:
            return "zero-shot-image-classification"
        if self.image is not None or self.has_parameters:
            return "image-to-text"
        return "feature-extraction"


@asynccontextmanager
async def read_payload(request: Request) -> AsyncIterator[TaskPayload]:
    """Read a request, whose body counts as buffered within the block; raises Problem."""
    reject_compressed(request.headers)
    reader, tenant = gateway_of(request).body_reader, request_tenant(request)
    async with reader.read(tenant.name, request.stream()) as body:
        yield await run_if_large(len(body), TaskPayload.of_body, body, media_type(request.headers))
