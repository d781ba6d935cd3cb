"""`data:` URLs, which contain an image in base64 instead of naming one."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from ..contract import ErrorCode
from ..errors import InvalidInput

_SCHEME: Final = "data:"
#: Characters of a URL that an error message repeats.
_SHOWN_CHARS: Final = 64
_HEAD: Final = re.compile(
    r"data:(image/[a-z0-9.+-]{1,64}|application/octet-stream);base64,", re.IGNORECASE
)


def is_data_url(image: str) -> bool:
    """Return whether a string is a `data:` URL."""
    return image[: len(_SCHEME)].lower() == _SCHEME


def decode(url: str, max_bytes: int, limit: str = "") -> bytes:
    """Return the bytes of a `data:` URL, at most `max_bytes`.

    Raises InvalidInput; `limit` names the setting of `max_bytes` in its message.
    """
    head = _HEAD.match(url)
    if head is None:
        raise _invalid(
            f"{url[:_SHOWN_CHARS]!r}: must be data:image/png;base64,… or another type image/…"
        )
    # Checked before it is decoded: four characters encode three bytes.
    if (len(url) - head.end()) * 3 // 4 - 2 > max_bytes:
        raise _too_large(max_bytes, limit)
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(f"the data: URL is not valid base64: {str(error).lower()}") from None
    if not data:
        raise _invalid("the data: URL is empty")
    if len(data) > max_bytes:
        raise _too_large(max_bytes, limit)
    return data


def _too_large(max_bytes: int, limit: str) -> InvalidInput:
    setting = f" ({limit})" if limit else ""
    return InvalidInput(
        f"image: has more than {max_bytes:,} bytes{setting}", ErrorCode.IMAGE_TOO_LARGE
    )


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(f"image: {message}", ErrorCode.IMAGE_INVALID)
