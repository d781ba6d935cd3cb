"""Images that have no URL: uploaded once, named by any number of jobs."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from ..contract import UPLOAD_TTL_S, ErrorCode
from .auth import CallerDependency
from .multipart import MultipartForm
from .openapi import answers, image_body, problems
from .problems import Problem
from .request_body import check_identity, media_type, run_if_large
from .responses import ImageBody
from .state import GatewayDependency
from .uploads import UNSAID

router = APIRouter(tags=["images"])


@router.post(
    "/v1/images",
    summary="Upload an image",
    status_code=201,
    response_class=Response,
    responses={**answers({201: "It is kept"}, ImageBody), **problems(422)},
    openapi_extra={"requestBody": image_body()},
)
async def upload_image(
    request: Request, caller: CallerDependency, gateway: GatewayDependency
) -> Response:
    """Keeps the bytes under their SHA-256 until a job names them, for an hour at most.

    Whether they are an image is found out by the job. A form has one file, `file`.
    """
    check_identity(request.headers)
    form = _form(request.headers)
    max_bytes = gateway.settings.max_image_bytes
    async with gateway.intake.whole(caller.name, request.stream()) as body:
        data = body if form is None else await run_if_large(len(body), form.whole_file, body)
        if len(data) > max_bytes:
            about = f"The image has more than {max_bytes:,} bytes (BLIPLINE_GATEWAY_MAX_IMAGE_MB)"
            raise Problem(ErrorCode.IMAGE_TOO_LARGE, about)
        if not data:
            raise Problem(ErrorCode.IMAGE_INVALID, "The image is empty (0 bytes)")
        reference = await gateway.client.upload(data)
        kept = ImageBody(image=reference, bytes=len(data), expires_in_s=UPLOAD_TTL_S)
    return Response(kept.model_dump_json(), 201, media_type="application/json")


def _form(headers: Headers) -> MultipartForm | None:
    """The form that the body is; None where it is the image itself. Raises Problem."""
    kind = media_type(headers)
    if kind == "multipart/form-data":
        return MultipartForm(headers["content-type"])
    if kind in (*UNSAID, "application/octet-stream") or kind.startswith("image/"):
        return None
    raise Problem(
        "unsupported_media_type",
        f"Content-Type {kind!r:.100}: image/jpeg and the like, application/octet-stream or "
        "multipart/form-data with a file `file` is needed",
    )
