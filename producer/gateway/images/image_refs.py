"""Image references of requests: URLs for the worker, blobs, `data:` URLs and base64.

Paths are rejected, so that no client can read files of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ... import contract
from ...contract import BLOB_SCHEME, MAX_REFERENCE_CHARS, ErrorCode
from ...errors import InvalidInput
from ...ledger import blobs, data_url
from ..access.image_access import ALL_IMAGES, ImageAccess

_LIMIT: Final = "BLIPLINE_GATEWAY_MAX_IMAGE_MB"
#: First bytes of image files. Base64 is recognised by them, as paths consist of its characters too.
_SIGNATURES: Final = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*"),
    # JPEG 2000.
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
)
#: Kind of a file, at this position: HEIC and AVIF.
_FTYP: Final = slice(4, 8)
#: Characters of base64 that are decoded to recognise an image.
_PROBE_CHARS: Final = 32


def resolve(image: Any, max_bytes: int, access: ImageAccess = ALL_IMAGES) -> str | bytes:
    """Return a reference unchanged, or the bytes of a `data:` URL or of base64.

    The bytes are at most `max_bytes`. References to which there is no `access` are rejected.

    Raises InvalidInput, with the error code of an item with this image.
    """
    if not isinstance(image, str):
        raise _invalid(f"must be a string, not {type(image).__name__}")
    if data_url.is_data_url(image):
        return data_url.decode(image, max_bytes, _LIMIT)
    if is_base64_image(image):
        return data_url.decode_base64(image, max_bytes, _LIMIT)
    if len(image) > MAX_REFERENCE_CHARS:
        raise _invalid(
            f"the reference has {len(image):,} characters, more than {MAX_REFERENCE_CHARS:,}, and "
            "is neither a data: URL nor an image file in base64"
        )
    if not blobs.is_reference(image):
        raise _invalid(
            f"{image!r:.100} is not an image reference: send a URL, blob:<sha256> (see POST "
            "/v1/images), a data: URL or the image file in base64; file paths are not accepted"
        )
    if image[: len(BLOB_SCHEME)].lower() == BLOB_SCHEME and not contract.is_blob(image):
        raise _invalid(f"{image!r:.100}: must be blob: and the 64 hex digits of a SHA-256")
    if (refusal := access.refusal(image)) is not None:
        raise InvalidInput(f"image: {refusal}", ErrorCode.IMAGE_BLOCKED)
    return image


def is_base64_image(image: str) -> bool:
    """Return whether a string is an image file in base64."""
    probe = "".join(image[: 2 * _PROBE_CHARS].split())[:_PROBE_CHARS]
    try:
        # A cut of 32 characters is complete, and a shorter text is no image.
        start = data_url.decode_base64(probe, _PROBE_CHARS)
    except InvalidInput:
        return False
    return start.startswith(_SIGNATURES) or start[_FTYP] == b"ftyp"


def resolve_item(
    source: Mapping[str, Any], max_bytes: int, access: ImageAccess = ALL_IMAGES
) -> dict[str, Any]:
    """Return an item of a batch with its image resolved, or with an error."""
    item = dict(source)
    if item.get("error") is not None:
        # The image of an invalid line is not used.
        item.pop("image", None)
        return item
    if item.get("image") is None:
        return item
    try:
        item["image"] = resolve(item["image"], max_bytes, access)
    except InvalidInput as error:
        failed: dict[str, Any] = {**contract.failure(error.code, str(error))}
        if isinstance(item.get("custom_id"), str):
            failed["custom_id"] = item["custom_id"]
        return failed
    return item


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(f"image: {message}", ErrorCode.IMAGE_INVALID)
