"""Route for image uploads: images without a URL, for any number of jobs."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from ...contract import UPLOAD_TTL_S, ErrorCode
from ..access.auth import TenantDependency
from ..http.multipart import FILE_FIELD, WholeForm
from ..http.problems import Problem
from ..jobs.request_body import media_type, reject_compressed, run_if_large
from ..openapi.openapi import json_responses, problem_responses
from ..openapi.openapi_bodies import image_body
from ..schemas.responses import ImageBody
from ..state import GatewayDependency
from .uploads import FORM_TYPE, UNDECLARED_TYPES

router = APIRouter(tags=["images"])


@router.post(
    "/v1/images",
    summary="Upload an image",
    status_code=201,
    response_class=Response,
    responses={**json_responses({201: "The image is stored"}, ImageBody), **problem_responses(422)},
    openapi_extra={"requestBody": image_body()},
)
async def upload_image(
    request: Request, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Store the bytes under their SHA-256 until a job references them, for up to an hour.

    The job validates the image. A form contains the file `file`; other fields are ignored.
    """
    reject_compressed(request.headers)
    form = form_of(request.headers)
    async with gateway.body_reader.read(tenant.name, request.stream()) as body:
        data = body if form is None else await run_if_large(len(body), file_of, form, body)
        check_image_bytes(data, gateway.settings.max_image_bytes)
        reference = await gateway.client.upload(data, account=tenant.name)
        image = ImageBody(image=reference, bytes=len(data), expires_in_s=UPLOAD_TTL_S)
    return Response(image.model_dump_json(), 201, media_type="application/json")


def is_image_type(kind: str) -> bool:
    """Return whether a declared media type is that of an image's bytes."""
    return kind == "application/octet-stream" or kind.startswith("image/")


def check_image_bytes(data: bytes, max_bytes: int) -> None:
    """Check the size of an image; raises Problem."""
    if len(data) > max_bytes:
        detail = f"The image has more than {max_bytes:,} bytes (BLIPLINE_GATEWAY_MAX_IMAGE_MB)"
        raise Problem(ErrorCode.IMAGE_TOO_LARGE, detail)
    if not data:
        raise Problem(ErrorCode.IMAGE_INVALID, "The image is empty (0 bytes)")


def form_of(headers: Headers, field: str = FILE_FIELD) -> WholeForm | None:
    """Return the form of the body, with a file in `field`; None if the body is the image itself.

    Raises Problem.
    """
    kind = media_type(headers)
    if kind == FORM_TYPE:
        return WholeForm(headers["content-type"], (field,))
    if kind in UNDECLARED_TYPES or is_image_type(kind):
        return None
    raise Problem(
        "unsupported_media_type",
        f"Content-Type {kind!r:.100}: send image/…, application/octet-stream, or "
        f"{FORM_TYPE} with a file `{field}`",
    )


def file_of(form: WholeForm, body: bytes, field: str = FILE_FIELD) -> bytes:
    """Return the file of a form; raises Problem."""
    files = [part.data for part in form.parts(body) if part.name == field]
    if len(files) != 1:
        detail = f"The form needs one part `{field}`, which contains the image"
        raise Problem("option_invalid", f"{detail}; it has {len(files)}")
    return files[0]
