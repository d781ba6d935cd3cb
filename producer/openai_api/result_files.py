"""Files with the results of a batch: they are read from the batch itself, line by line."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Self

from starlette.requests import ClientDisconnect

from ..aio.handles import PAGE_RESULTS, AsyncBatch
from ..contract import ErrorCode
from ..errors import BliplineError, InvalidInput, JobUnknown
from ..gateway.access.tenants import PUBLIC_ID, Tenant
from ..gateway.http.problems import STATUS
from ..gateway.schemas.metadata import RequestMetadata
from ..gateway.state import Gateway
from ..job import Result
from ..results.progress import Progress
from .choices import ChoiceFormat
from .completion import ChatCompletion
from .errors import error_body

#: Name of the fields of this API in the note of a batch.
NOTE_FIELD: Final = "openai"
#: Name of the parameters there that shape choices.
FORM_FIELD: Final = "form"
_FILE_ID: Final = re.compile(rf"file-(output|errors)-({PUBLIC_ID})")


@dataclass(frozen=True, slots=True)
class FileBatch:
    """A batch of a file, and its progress."""

    public_id: str
    handle: AsyncBatch
    progress: Progress
    created_at: int
    #: Fields of its creation.
    request: dict[str, Any]

    @classmethod
    async def find(cls, gateway: Gateway, tenant: Tenant, public_id: str) -> Self | None:
        """Return a batch of this API; None if there is none."""
        try:
            handle = gateway.client.batch(tenant.batch_id(public_id))
            progress = await handle.progress()
        except (InvalidInput, JobUnknown):
            return None
        metadata = RequestMetadata.decode(progress.note)
        request = None if metadata is None else json.loads(progress.note).get(NOTE_FIELD)
        if metadata is None or request is None:
            return None
        return cls(public_id, handle, progress, int(metadata.created_at), request)

    @property
    def has_ended(self) -> bool:
        """True if every item has its result."""
        return self.progress.done == self.progress.total

    def file_id(self, *, errors: bool) -> str | None:
        """Return the id of the file with the outputs or the errors; None if there are none."""
        failed = self.progress.failed
        count = failed if errors else self.progress.done - failed
        return f"file-{'errors' if errors else 'output'}-{self.public_id}" if count else None


@dataclass(frozen=True, slots=True)
class ResultFile:
    """The outputs of an ended batch, or its errors."""

    batch: FileBatch
    id: str
    has_errors: bool

    @classmethod
    async def of(cls, gateway: Gateway, tenant: Tenant, file_id: str) -> Self | None:
        """Return the results of this id; None if it is of another file, or none."""
        if (match := _FILE_ID.fullmatch(file_id)) is None:
            return None
        has_errors = match[1] == "errors"
        batch = await FileBatch.find(gateway, tenant, match[2])
        if batch is None or not batch.has_ended or batch.file_id(errors=has_errors) is None:
            return None
        return cls(batch, file_id, has_errors)

    async def body(self) -> dict[str, Any]:
        """Return the body of a response."""
        size = 0
        async for lines in self.lines():
            size += len(lines)
        kind = "errors" if self.has_errors else "output"
        return {
            "id": self.id,
            "object": "file",
            "bytes": size,
            "created_at": self.batch.created_at,
            "filename": f"batch_{self.batch.public_id}_{kind}.jsonl",
            "purpose": "batch_output",
            "status": "processed",
        }

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of pages; close the connection if Redis fails meanwhile."""
        cursor = 0
        while True:
            try:
                page = await self.batch.handle.page(cursor, most=PAGE_RESULTS)
            except BliplineError:
                raise ClientDisconnect from None
            selected = [result for result in page.results if result.ok != self.has_errors]
            yield "".join(json.dumps(self._line(result)) + "\n" for result in selected).encode()
            cursor = page.cursor
            if page.over or not page.results:
                return

    def _line(self, result: Result) -> dict[str, Any]:
        request_id = f"{self.batch.public_id}-{result.index}"
        line = {"id": f"batch_req_{request_id}", "custom_id": result.custom_id, "error": None}
        if result.error is None:
            form = ChoiceFormat.of(self.batch.request.get(FORM_FIELD, {}))
            completion = ChatCompletion(f"chatcmpl-{request_id}", self.batch.created_at, form)
            return line | {"response": _response(200, request_id, completion.body(result))}
        code, message = result.error.code, result.error.message
        if code in (ErrorCode.CANCELLED, ErrorCode.DEADLINE_EXCEEDED):
            name = "batch_cancelled" if code is ErrorCode.CANCELLED else "batch_expired"
            return line | {"response": None, "error": {"code": name, "message": message}}
        status = STATUS[code][0]
        status = 400 if status == 422 else status
        body = error_body(message, status, code.value)
        return line | {"response": _response(status, request_id, body)}


def _response(status: int, request_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": request_id, "body": body}
