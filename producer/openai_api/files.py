"""Routes of files: requests of a batch, which Redis stores for an hour, and its results."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from ..contract import MAX_BLOB_BYTES, UPLOAD_TTL_S, blob_hash
from ..gateway.access.auth import TenantDependency
from ..gateway.access.tenants import Tenant
from ..gateway.http.multipart import FILE_FIELD, WholeForm
from ..gateway.images.uploads import FORM_TYPE
from ..gateway.jobs.request_body import media_type, reject_compressed, run_if_large
from ..gateway.state import Gateway, GatewayDependency
from ..ledger.ids import new_id
from ..ledger.keys import Keys
from .errors import OpenAIError
from .parameters import required, unsupported
from .result_files import ResultFile

router = APIRouter()

#: Maximum files of a name.
MAX_FILES: Final = 1_000
_MAX_NAME_CHARS: Final = 255


@dataclass(frozen=True, slots=True)
class StoredFile:
    """The record of an uploaded file, whose bytes are stored as those of an image."""

    id: str
    sha: str
    bytes: int
    created_at: int
    filename: str

    @property
    def expires_at(self) -> int:
        """The end of its storage, in Unix seconds."""
        return self.created_at + UPLOAD_TTL_S

    def body(self) -> dict[str, Any]:
        """Return the body of a response."""
        fields = asdict(self)
        del fields["sha"]
        purpose = {"object": "file", "purpose": "batch", "status": "processed"}
        return {**fields, **purpose, "expires_at": self.expires_at}


class FileStore:
    """The uploaded files of a name; each method calls Redis in a thread."""

    def __init__(self, gateway: Gateway, tenant: Tenant) -> None:
        self._gateway = gateway
        self._tenant = tenant
        self._keys = Keys(gateway.settings.key_prefix)
        self._key = self._keys.files(tenant.name)

    async def add(self, filename: str, data: bytes) -> StoredFile:
        """Store a file; raises OpenAIError, and StorageQuotaExceeded."""
        if len(await self.list()) >= MAX_FILES:
            message = f"{self._tenant.name} has {MAX_FILES:,} files: delete some of them"
            raise OpenAIError(message, code="too_many_files", status=429)
        reference = await self._gateway.client.upload(data, account=self._tenant.name)
        name = PurePath(filename).name[:_MAX_NAME_CHARS] or FILE_FIELD
        file = StoredFile(
            f"file-{new_id()}", blob_hash(reference), len(data), int(time.time()), name
        )
        await self._run(self._write, file)
        return file

    async def list(self) -> list[StoredFile]:
        """Return the files that have not expired, the newest first."""
        values: dict[bytes, bytes] = await self._run(self._gateway.connection.hgetall, self._key)
        files = [StoredFile(**json.loads(value)) for value in values.values()]
        expired = [file.id for file in files if file.expires_at <= time.time()]
        if expired:
            await self._run(self._gateway.connection.hdel, self._key, *expired)
        current = [file for file in files if file.expires_at > time.time()]
        return sorted(current, key=lambda file: (file.created_at, file.id), reverse=True)

    async def get(self, file_id: str) -> StoredFile:
        """Return a file; raises OpenAIError."""
        value: bytes | None = await self._run(self._gateway.connection.hget, self._key, file_id)
        file = None if value is None else StoredFile(**json.loads(value))
        if file is None or file.expires_at <= time.time():
            raise file_not_found(file_id)
        return file

    async def read(self, file: StoredFile) -> bytes:
        """Return the bytes of a file; raises OpenAIError."""
        data: bytes | None = await self._run(
            self._gateway.connection.get, self._keys.blob(file.sha)
        )
        if data is None:
            raise file_not_found(file.id)
        return data

    async def delete(self, file: StoredFile) -> None:
        """Delete the record of a file; its bytes expire."""
        await self._run(self._gateway.connection.hdel, self._key, file.id)

    def _write(self, file: StoredFile) -> None:
        pipe = self._gateway.connection.pipeline(transaction=False)
        pipe.hset(self._key, file.id, json.dumps(asdict(file)))
        pipe.expire(self._key, UPLOAD_TTL_S)
        pipe.execute()

    async def _run(self, call: Any, *args: Any) -> Any:
        return await self._gateway.redis_calls.run(call, *args)


@router.post("/openai/v1/files", include_in_schema=False)
async def create_file(
    request: Request, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Store the requests of a batch for an hour."""
    reject_compressed(request.headers)
    if media_type(request.headers) != FORM_TYPE:
        raise OpenAIError(f"Content-Type: {FORM_TYPE} is required", param=FILE_FIELD, status=415)
    form = WholeForm(request.headers["content-type"], (FILE_FIELD,))
    async with gateway.body_reader.read(tenant.name, request.stream()) as body:
        parts = {part.name: part for part in await run_if_large(len(body), form.parts, body)}
        purpose = required(parts, "purpose").data.decode(errors="replace")
        if purpose != "batch":
            raise unsupported("purpose", f"The purpose {purpose!r:.100} is not supported; 'batch'")
        file = required(parts, FILE_FIELD)
        if not 0 < len(file.data) <= MAX_BLOB_BYTES:
            message = f"A file has 1 to {MAX_BLOB_BYTES:,} bytes, not {len(file.data):,}"
            status = 413 if file.data else 400
            raise OpenAIError(message, code="invalid_file", param=FILE_FIELD, status=status)
        stored = await FileStore(gateway, tenant).add(file.filename or "", file.data)
    return _json(stored.body())


@router.get("/openai/v1/files", include_in_schema=False)
async def list_files(
    request: Request, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """List the uploaded files, the newest first."""
    files = await FileStore(gateway, tenant).list()
    if request.query_params.get("purpose", "batch") != "batch":
        files = []
    if request.query_params.get("order") == "asc":
        files.reverse()
    return _json(page_of([file.body() for file in files], request))


@router.get("/openai/v1/files/{id}", include_in_schema=False)
async def get_file(
    request: Request, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Return an uploaded file, or one with the results of a batch."""
    file_id = request.path_params["id"]
    if (results := await ResultFile.of(gateway, tenant, file_id)) is not None:
        return _json(await results.body())
    return _json((await FileStore(gateway, tenant).get(file_id)).body())


@router.get("/openai/v1/files/{id}/content", include_in_schema=False)
async def get_content(
    request: Request, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Return the bytes of a file."""
    file_id = request.path_params["id"]
    if (results := await ResultFile.of(gateway, tenant, file_id)) is not None:
        return StreamingResponse(results.lines(), media_type="application/jsonl")
    store = FileStore(gateway, tenant)
    data = await store.read(await store.get(file_id))
    return Response(data, media_type="application/octet-stream")


@router.delete("/openai/v1/files/{id}", include_in_schema=False)
async def delete_file(
    request: Request, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Delete an uploaded file; the batches that it has begun continue."""
    file_id = request.path_params["id"]
    if await ResultFile.of(gateway, tenant, file_id) is not None:
        message = "The results of a batch expire by themselves; DELETE /v1/batches/{id} deletes it"
        raise unsupported("id", message)
    store = FileStore(gateway, tenant)
    await store.delete(await store.get(file_id))
    return _json({"id": file_id, "object": "file", "deleted": True})


def file_not_found(file_id: str) -> OpenAIError:
    """Return the error for an unknown file."""
    message = f"There is no file {file_id!r:.100}, or it has expired"
    return OpenAIError(message, code="file_not_found", param="id", status=404)


def page_of(objects: Sequence[dict[str, Any]], request: Request) -> dict[str, Any]:
    """Return the page of a list after the cursor of a request; raises OpenAIError."""
    limit = request.query_params.get("limit", "20")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= MAX_FILES):
        message = f"'limit' must be 1 to {MAX_FILES:,}, not {limit!r:.100}"
        raise OpenAIError(message, param="limit")
    after = request.query_params.get("after")
    start = next((n for n, item in enumerate(objects, start=1) if item["id"] == after), 0)
    if after is not None and not start:
        raise OpenAIError(f"'after': there is no object {after!r:.100} in this list", param="after")
    page = objects[start : start + int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + len(page) < len(objects),
    }


def _json(body: dict[str, Any]) -> Response:
    return Response(json.dumps(body), media_type="application/json")
