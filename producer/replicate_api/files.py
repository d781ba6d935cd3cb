"""Route of files: the library uploads a file of an input before its prediction."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter, Request, Response

from ..contract import UPLOAD_TTL_S
from ..gateway.access.auth import TenantDependency
from ..gateway.images.images import check_image_bytes, file_of, form_of
from ..gateway.jobs.request_body import reject_compressed, run_if_large
from ..gateway.state import GatewayDependency

router = APIRouter()

#: Part of the form with the bytes.
_CONTENT: Final = "content"


@router.post("/replicate/v1/files", include_in_schema=False)
async def create_file(
    request: Request, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Store an image for the predictions of the next hour; its URL is a reference for them."""
    reject_compressed(request.headers)
    form = form_of(request.headers, _CONTENT)
    async with gateway.body_reader.read(tenant.name, request.stream()) as body:
        data = (
            body if form is None else await run_if_large(len(body), file_of, form, body, _CONTENT)
        )
        check_image_bytes(data, gateway.settings.max_image_bytes)
        reference = await gateway.client.upload(data, account=tenant.name)
    digest, now = reference.partition(":")[2], datetime.now(UTC)
    file = {
        "id": digest,
        "name": "image",
        "content_type": "application/octet-stream",
        "size": len(data),
        "etag": digest,
        "checksums": {"sha256": digest},
        "metadata": {},
        "created_at": now.isoformat(),
        "expires_at": (now + timedelta(seconds=UPLOAD_TTL_S)).isoformat(),
        "urls": {"get": reference},
    }
    return Response(json.dumps(file), 201, media_type="application/json")
