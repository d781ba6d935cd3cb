"""What a request may name as an image: a reference for the worker, or the bytes themselves.

Never a path: whoever calls must not read the disk of this machine.
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

#: What comes before the bytes of an image in a URL, and how they are written.
_DATA: Final = re.compile(
    r"data:(image/[a-z0-9.+-]{1,64}|application/octet-stream);base64,", re.IGNORECASE
)


def resolve(image: Any, max_bytes: int) -> str | bytes:
    """A reference as it is, or the bytes of a ``data:`` URL, `max_bytes` at most.

    Raises InvalidInput, with the code that an item with this image would end with.
    """
    if not isinstance(image, str):
        raise _invalid(f"a string is needed, not {type(image).__name__}")
    if image[:5].lower() == "data:":
        return _decoded(image, max_bytes)
    if len(image) > MAX_REFERENCE_CHARS:
        raise _invalid(
            f"the reference has {len(image):,} characters; at most {MAX_REFERENCE_CHARS:,} are read"
        )
    if not blobs.is_reference(image):
        raise _invalid(
            f"{image!r:.100} is no reference: give a URL, blob:<sha256> (of POST /v1/images) or a "
            "data: URL; paths of this machine are not read"
        )
    if image[: len(BLOB_SCHEME)].lower() == BLOB_SCHEME and not contract.is_blob(image):
        raise _invalid(f"{image!r:.100}: blob: and the 64 hex digits of a SHA-256 are needed")
    return image


def resolve_item(source: Mapping[str, Any], max_bytes: int) -> dict[str, Any]:
    """An item of a batch with its image resolved, or with the error that it ends with."""
    item = dict(source)
    if item.get("error") is not None:
        # It was found unusable before; nobody looks at its image.
        item.pop("image", None)
        return item
    if item.get("image") is None:
        return item
    try:
        item["image"] = resolve(item["image"], max_bytes)
    except InvalidInput as error:
        return _failed(item, ErrorCode(error.code), str(error))
    return item


def _failed(item: Mapping[str, Any], code: ErrorCode, message: str) -> dict[str, Any]:
    known = {name: item[name] for name in ("custom_id",) if isinstance(item.get(name), str)}
    return known | contract.failure(code, message)


def _decoded(url: str, max_bytes: int) -> bytes:
    """The bytes in a ``data:`` URL."""
    head = _DATA.match(url)
    if head is None:
        raise _invalid(
            f"{url[:64]!r}: a data: URL of an image is data:image/png;base64,… or of another type "
            "image/…"
        )
    # Before it is decoded: four characters hold three bytes.
    if (len(url) - head.end()) * 3 // 4 - 2 > max_bytes:
        raise _too_large(max_bytes)
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(f"the data: URL holds no base64: {str(error).lower()}") from None
    if not data:
        raise _invalid("the data: URL is empty")
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data


def _too_large(max_bytes: int) -> InvalidInput:
    return InvalidInput(
        f"image: it has more than {max_bytes:,} bytes (BLIPLINE_GATEWAY_MAX_IMAGE_MB)",
        ErrorCode.IMAGE_TOO_LARGE,
    )


def _invalid(about: str) -> InvalidInput:
    return InvalidInput(f"image: {about}", ErrorCode.IMAGE_INVALID)
