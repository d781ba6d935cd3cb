"""Route for image uploads: images without a URL, for any number of jobs."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from ..contract import UPLOAD_TTL_S, ErrorCode
from .auth import TenantDependency
from .multipart import MultipartForm
from .openapi import image_body, json_responses, problem_responses
from .problems import Problem
from .request_body import media_type, reject_compressed, run_if_large
from .responses import ImageBody
from .state import GatewayDependency
from .uploads import UNDECLARED_TYPES

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

    The job validates the image. A form contains one file, `file`.
    """
    reject_compressed(request.headers)
    form = _form_of(request.headers)
    max_bytes = gateway.settings.max_image_bytes
    async with gateway.body_reader.read(tenant.name, request.stream()) as body:
        data = body if form is None else await run_if_large(len(body), form.whole_file, body)
        if len(data) > max_bytes:
            detail = f"The image has more than {max_bytes:,} bytes (BLIPLINE_GATEWAY_MAX_IMAGE_MB)"
            raise Problem(ErrorCode.IMAGE_TOO_LARGE, detail)
        if not data:
            raise Problem(ErrorCode.IMAGE_INVALID, "The image is empty (0 bytes)")
        reference = await gateway.client.upload(data, account=tenant.name)
        image = ImageBody(image=reference, bytes=len(data), expires_in_s=UPLOAD_TTL_S)
    return Response(image.model_dump_json(), 201, media_type="application/json")


def _form_of(headers: Headers) -> MultipartForm | None:
    """Return the form of the body; None if the body is the image itself. Raises Problem."""
    kind = media_type(headers)
    if kind == "multipart/form-data":
        return MultipartForm(headers["content-type"])
    if kind in (*UNDECLARED_TYPES, "application/octet-stream") or kind.startswith("image/"):
        return None
    raise Problem(
        "unsupported_media_type",
        f"Content-Type {kind!r:.100}: send image/…, application/octet-stream, or "
        "multipart/form-data with a file `file`",
    )
