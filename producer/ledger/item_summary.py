"""The summary of a chunk that monitors such as Flower show: short, no image bytes, no secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from .. import contract
from ..net.redact import redact_text, redact_url

#: Custom ids or texts of items that a summary quotes.
QUOTED: Final = 3
#: Characters of the reference of an uploaded image: enough to recognise it.
BLOB_CHARS: Final = 17
#: Characters of a text that are searched for URLs.
SEARCHED_CHARS: Final = 2000
#: Maximum characters of a custom id, an image reference and a text.
ID_CHARS: Final = 40
IMAGE_CHARS: Final = 72
TEXT_CHARS: Final = 120


def summarize(items: Sequence[Any]) -> str:
    """Return `32 items 'a', 'b', 'c', …: https://x/1.jpg 'what is it?', …`.

    An item may hold anything; the worker reports its errors.
    """
    known = [item for item in items if isinstance(item, Mapping)]
    ids = quote(_texts(item.get("custom_id") for item in known), ID_CHARS)
    several = len(items) != 1
    head = " ".join(filter(None, [f"{len(items)} items" * several, ids]))
    body = _describe(known[0]) if known else ""
    if body and several:
        body += ", …"
    return ": ".join(filter(None, [head, body]))


def quote(texts: Iterable[str], max_chars: int) -> str:
    """Return the first of several texts, quoted and shortened."""
    first = list(islice(texts, QUOTED + 1))
    quoted = [
        repr(shorten(redact_text(text[:SEARCHED_CHARS]), max_chars)) for text in first[:QUOTED]
    ]
    return ", ".join([*quoted, "…"] if len(first) > QUOTED else quoted)


def shorten(text: str, max_chars: int) -> str:
    """Return a text of at most this many characters."""
    return text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"


def _describe(item: Mapping[str, Any]) -> str:
    """Return the image and the first text of an item."""
    texts = item.get("texts")
    fields = [item.get(name) for name in ("question", "prompt", "text")]
    text = quote(
        islice(_texts([*fields, *(texts if isinstance(texts, list) else [])]), 1), TEXT_CHARS
    )
    return " ".join(filter(None, [_image(item.get("image")), text]))


def _image(image: Any) -> str:
    if not isinstance(image, str) or not image:
        return ""
    if contract.is_blob(image):
        return image[:BLOB_CHARS] + "…"
    # Without a scheme it may be the image itself, in base64.
    if ":" not in image and len(image) > IMAGE_CHARS:
        return f"({len(image)} characters)"
    return shorten(redact_url(image), IMAGE_CHARS)


def _texts(values: Iterable[Any]) -> Iterable[str]:
    return (value for value in values if isinstance(value, str) and value)
