"""Images that have no URL: uploaded once, named by any number of jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from ..contract import UPLOAD_TTL_S, ErrorCode
from .access import CallerDependency
from .bodies import ImageBody
from .forms import MAX_FIELDS_BYTES, Form
from .intake import INTAKE, check_identity, media_type, work
from .openapi import answers, problems
from .parts import GatewayDependency
from .problems import Problem

router = APIRouter(tags=["images"])

_BYTES: Final = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
_FORM: Final = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": _BYTES["schema"]},
    }
}
_BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": "The bytes of an image file, of any type image/….",
    "content": {
        "image/jpeg": _BYTES,
        "image/png": _BYTES,
        "application/octet-stream": _BYTES,
        "multipart/form-data": _FORM,
    },
}


@router.post(
    "/v1/images",
    summary="Upload an image",
    status_code=201,
    response_class=Response,
    responses={**answers({201: "It is kept"}, ImageBody), **problems(422)},
    openapi_extra={"requestBody": _BODY},
)
async def upload_image(
    request: Request, _: CallerDependency, gateway: GatewayDependency
) -> Response:
    """Keeps the bytes under their SHA-256 until a job names them, for an hour at most.

    Whether they are an image is found out by the job. A form has one file, `file`.
    """
    check_identity(request.headers)
    form = _form(request.headers)
    most = gateway.settings.gateway_max_image_mb * 2**20
    # A form has a frame around it, which is looked at with the rest.
    check = _bound(most if form is None else most + MAX_FIELDS_BYTES)
    async with INTAKE.whole(request.stream(), check) as body:
        data = body if form is None else await work(len(body), form.whole_file, body)
        if (problem := _bound(most)(len(data))) is not None:
            raise problem
        if not data:
            raise Problem(ErrorCode.IMAGE_INVALID, "The image is empty (0 bytes)")
        reference = await gateway.client.upload(data)
        kept = ImageBody(image=reference, bytes=len(data), expires_in_s=UPLOAD_TTL_S)
    return Response(kept.model_dump_json(), 201, media_type="application/json")


def _form(headers: Headers) -> Form | None:
    """The form that the body is; None where it is the image itself. Raises Problem."""
    kind = media_type(headers)
    if kind == "multipart/form-data":
        return Form(headers["content-type"])
    if kind in ("", "application/octet-stream") or kind.startswith("image/"):
        return None
    raise Problem(
        "unsupported_media_type",
        f"Content-Type {kind!r:.100}: image/jpeg and the like, application/octet-stream or "
        "multipart/form-data with a file `file` is needed",
    )


def _bound(most: int) -> Callable[[int], Problem | None]:
    def check(size: int) -> Problem | None:
        about = f"The image has more than {most:,} bytes (BLIPLINE_GATEWAY_MAX_IMAGE_MB)"
        return Problem(ErrorCode.IMAGE_TOO_LARGE, about) if size > most else None

    return check
