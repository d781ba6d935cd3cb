"""Bodies of the routes of one task: JSON, a form, or the bytes of the image."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request

from ...contract import MAX_TEXTS
from ..access.auth import request_tenant
from ..http.multipart import FILE_FIELD, WholeForm
from ..http.problems import Problem
from ..images.images import check_image_bytes, is_image_type
from ..images.uploads import FORM_TYPE, UNDECLARED_TYPES
from ..schemas.task_fields import TaskFields
from ..schemas.text_fields import parse_text_fields, text_values
from ..state import gateway_of
from .request_body import (
    MAX_JOB_BYTES,
    is_json,
    media_type,
    parse_task_fields,
    reject_compressed,
    run_if_large,
)

#: Name of the field with the image.
IMAGE_FIELD: Final = "image"
#: Maximum number of fields: a text list, and all others.
MAX_FIELDS: Final = MAX_TEXTS + 32
#: Value of `image` while the body contains its bytes.
_IN_BODY: Final = "blob:"
#: First characters of a form in URL encoding; no image begins with a name and `=`.
_URL_ENCODED: Final = re.compile(rb"[a-z_]{2,32}=")


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """The fields of a request, and the bytes of its image if it contains them."""

    fields: TaskFields
    image: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Body:
    """A body, its declared type, and the query of its request."""

    content_type: str
    kind: str
    query: list[tuple[str, str]]
    data: bytes
    max_image_bytes: int

    def parse(self, model: type[TaskFields]) -> TaskRequest:
        """Return the request; raises Problem or RequestValidationError."""
        kind = self._detected_kind()
        if is_json(kind):
            if self.query:
                raise Problem(
                    "option_invalid",
                    f"{self.query[0][0]:.100}: a query parameter beside a JSON body; move it into "
                    "the JSON",
                )
            return TaskRequest(parse_task_fields(model, self.data))
        if kind == FORM_TYPE:
            return self._form(model)
        if kind == "application/x-www-form-urlencoded":
            return self._request(model, _url_encoded(self.data), None)
        return self._request(model, [], self.data if self.data or kind else None)

    def _detected_kind(self) -> str:
        """Return the declared type, or that of the content if the client declares none."""
        if self.kind not in UNDECLARED_TYPES:
            if is_json(self.kind) or self.kind == FORM_TYPE or is_image_type(self.kind):
                return self.kind
            raise Problem(
                "unsupported_media_type",
                f"Content-Type {self.kind!r:.100}: send the image as image/… or "
                f"application/octet-stream, {FORM_TYPE}, or application/json",
            )
        # curl declares URL encoding for all data.
        if self.data.lstrip()[:1] == b"{":
            return "application/json"
        is_url_encoded = _URL_ENCODED.match(self.data) is not None
        return "application/x-www-form-urlencoded" if is_url_encoded else ""

    def _form(self, model: type[TaskFields]) -> TaskRequest:
        form = WholeForm(
            self.content_type,
            (FILE_FIELD, IMAGE_FIELD),
            max_parts=MAX_FIELDS,
            max_fields_bytes=MAX_JOB_BYTES,
        )
        pairs, images = [], []
        for part in form.parts(self.data):
            if part.name == FILE_FIELD or (part.name == IMAGE_FIELD and part.filename is not None):
                images.append(part.data)
            else:
                pairs.append((part.name, _decode(part.name, part.data)))
        if len(images) > 1:
            detail = f"{FILE_FIELD}: the form contains {len(images)} files; send one image"
            raise Problem("option_invalid", detail)
        return self._request(model, pairs, images[0] if images else None)

    def _request(
        self, model: type[TaskFields], pairs: list[tuple[str, str]], image: bytes | None
    ) -> TaskRequest:
        """Return the request of the query, the fields of the body, and the image's bytes."""
        if image is not None:
            check_image_bytes(image, self.max_image_bytes)
            pairs = [*pairs, (IMAGE_FIELD, _IN_BODY)]
        names = {name for name, _ in pairs}
        for name, _ in self.query:
            if name in names:
                detail = f"{name:.100}: both the query and the body contain this field"
                raise Problem("option_invalid", detail)
        values = text_values([*self.query, *pairs])
        return TaskRequest(parse_text_fields(model, values), image)


@asynccontextmanager
async def read_task_request(
    request: Request, model: type[TaskFields]
) -> AsyncIterator[TaskRequest]:
    """Read a request, whose body counts as buffered within the block.

    Raises Problem, or RequestValidationError for invalid fields.
    """
    reject_compressed(request.headers)
    gateway, tenant = gateway_of(request), request_tenant(request)
    async with gateway.body_reader.read(tenant.name, request.stream()) as data:
        body = _Body(
            request.headers.get("content-type", ""),
            media_type(request.headers),
            request.query_params.multi_items(),
            data,
            gateway.settings.max_image_bytes,
        )
        yield await run_if_large(len(data), body.parse, model)


def _url_encoded(data: bytes) -> list[tuple[str, str]]:
    """Return the fields of a form in URL encoding; raises Problem."""
    try:
        pairs = parse_qsl(
            data.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError as error:
        detail = f"The body is not a form in URL encoding: {error}"
        raise Problem("bad_request", detail) from None
    if sum(len(text) for name, text in pairs if name != IMAGE_FIELD) > MAX_JOB_BYTES:
        detail = f"The fields of the form have more than {MAX_JOB_BYTES:,} bytes"
        raise Problem("body_too_large", detail)
    return pairs


def _decode(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Problem("option_invalid", f"{name:.100}: is not UTF-8") from None
