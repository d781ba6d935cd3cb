"""Image references of requests: URLs for the worker, blobs, and `data:` URLs with the bytes.

Paths are rejected, so that no client can read files of this machine.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

from .. import contract
from ..contract import BLOB_SCHEME, MAX_REFERENCE_CHARS, ErrorCode
from ..errors import InvalidInput
from ..ledger import blobs

#: Prefix of a `data:` URL with an image in base64.
_DATA: Final = re.compile(
    r"data:(image/[a-z0-9.+-]{1,64}|application/octet-stream);base64,", re.IGNORECASE
)


def resolve(image: Any, max_bytes: int) -> str | bytes:
    """Return a reference unchanged, or the bytes of a `data:` URL, at most `max_bytes`.

    Raises InvalidInput, with the error code of an item with this image.
    """
    if not isinstance(image, str):
        raise _invalid(f"must be a string, not {type(image).__name__}")
    if image[:5].lower() == "data:":
        return _decode(image, max_bytes)
    if len(image) > MAX_REFERENCE_CHARS:
        raise _invalid(
            f"the reference has {len(image):,} characters, more than {MAX_REFERENCE_CHARS:,}"
        )
    if not blobs.is_reference(image):
        raise _invalid(
            f"{image!r:.100} is not an image reference: send a URL, blob:<sha256> (see POST "
            "/v1/images) or a data: URL; file paths are not accepted"
        )
    if image[: len(BLOB_SCHEME)].lower() == BLOB_SCHEME and not contract.is_blob(image):
        raise _invalid(f"{image!r:.100}: must be blob: and the 64 hex digits of a SHA-256")
    return image


def resolve_item(source: Mapping[str, Any], max_bytes: int) -> dict[str, Any]:
    """Return an item of a batch with its image resolved, or with an error."""
    item = dict(source)
    if item.get("error") is not None:
        # The image of an invalid line is not used.
        item.pop("image", None)
        return item
    if item.get("image") is None:
        return item
    try:
        item["image"] = resolve(item["image"], max_bytes)
    except InvalidInput as error:
        failed: dict[str, Any] = {**contract.failure(error.code, str(error))}
        if isinstance(item.get("custom_id"), str):
            failed["custom_id"] = item["custom_id"]
        return failed
    return item


def _decode(url: str, max_bytes: int) -> bytes:
    """Return the bytes of a `data:` URL."""
    head = _DATA.match(url)
    if head is None:
        raise _invalid(f"{url[:64]!r}: must be data:image/png;base64,… or another type image/…")
    # Checked before it is decoded: four characters encode three bytes.
    if (len(url) - head.end()) * 3 // 4 - 2 > max_bytes:
        raise _too_large(max_bytes)
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(f"the data: URL is not valid base64: {str(error).lower()}") from None
    if not data:
        raise _invalid("the data: URL is empty")
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data


def _too_large(max_bytes: int) -> InvalidInput:
    return InvalidInput(
        f"image: has more than {max_bytes:,} bytes (BLIPLINE_GATEWAY_MAX_IMAGE_MB)",
        ErrorCode.IMAGE_TOO_LARGE,
    )


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(f"image: {message}", ErrorCode.IMAGE_INVALID)
