"""Images as text: `data:` URLs, which contain an image instead of naming one, and base64."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from ..contract import ErrorCode
from ..errors import InvalidInput

_SCHEME: Final = "data:"
#: Characters of a URL that an error message repeats.
_SHOWN_CHARS: Final = 64
#: Type, parameters such as `;name=cat.png`, and the encoding; possessive, so that no text is
#: scanned twice.
_HEAD: Final = re.compile(
    r"data:(?:image/[a-z0-9.+-]{1,64}|application/octet-stream)"
    r"(?:;(?!base64,)[^;,]{1,256}+){0,8}+(?P<base64>;base64)?,",
    re.IGNORECASE,
)
#: Line breaks of wrapped base64, with their indentation; a space within a line is no line break.
_LINE_BREAK: Final = re.compile(rb"[ \t]*[\r\n\f][ \t\r\n\f]*")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


def is_data_url(image: str) -> bool:
    """Return whether a string is a `data:` URL."""
    return image[: len(_SCHEME)].lower() == _SCHEME


def contains_data(image: str) -> bool:
    """Return whether a string is a `data:` URL with its data, and not a file of such a name."""
    return is_data_url(image) and "," in image


def decode(url: str, max_bytes: int, limit: str = "") -> bytes:
    """Return the bytes of a `data:` URL, at most `max_bytes`.

    Base64 may be wrapped in lines, unpadded, in the URL-safe alphabet, or percent-encoded. Without
    `;base64`, the data are percent-encoded bytes.

    Raises InvalidInput; `limit` names the setting of `max_bytes` in its message.
    """
    head = _HEAD.match(url)
    if head is None:
        raise _invalid(
            f"{url[:_SHOWN_CHARS]!r}: must be data:image/png;base64,… or another type image/…"
        )
    text = url[head.end() :]
    if head["base64"]:
        data = decode_base64(text, max_bytes, limit, "the data: URL")
    else:
        data = _check_size(unquote_to_bytes(text), max_bytes, limit)
    if not data:
        raise _invalid("the data: URL is empty")
    return data


def decode_base64(text: str, max_bytes: int, limit: str = "", name: str = "the image") -> bytes:
    """Return the bytes of an image in base64, as `decode` does; `name` begins the messages."""
    # Characters beyond ASCII become bytes that are not base64.
    encoded = text.encode("utf-8", "surrogatepass").strip()
    if b"%" in encoded:
        encoded = unquote_to_bytes(encoded).strip()
    encoded = _LINE_BREAK.sub(b"", encoded).translate(_URL_SAFE)
    if b" " in encoded:
        raise _invalid(f"{name} contains spaces: encode + as %2B in a form or a query")
    digits = encoded.rstrip(b"=")
    # Checked before it is decoded: four characters encode three bytes.
    if len(digits) * 3 // 4 > max_bytes:
        raise _too_large(max_bytes, limit)
    if len(encoded) - len(digits) > 2:
        raise _invalid(f"{name} is not valid base64: excess padding")
    try:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except binascii.Error as error:
        raise _invalid(f"{name} is not valid base64: {str(error).lower()}") from None


def _check_size(data: bytes, max_bytes: int, limit: str) -> bytes:
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
