"""Sample requests of the tests of this API."""

from __future__ import annotations

from typing import Any, Final

URL: Final = "https://images.example.com/cat.jpg"


def text(content: str) -> dict[str, Any]:
    """Return a part with a text."""
    return {"type": "text", "text": content}


def image(url: str = URL) -> dict[str, Any]:
    """Return a part with an image."""
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def user(*content: Any) -> dict[str, Any]:
    """Return a message of the user: a string, or parts."""
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else [*content]}


def assistant(content: Any) -> dict[str, Any]:
    """Return a message of the assistant."""
    return {"role": "assistant", "content": content}


def request_of(*messages: Any, **parameters: Any) -> dict[str, Any]:
    """Return the parameters of a completion."""
    return {"model": "blipline", "messages": [*messages], **parameters}


def ask(**parameters: Any) -> dict[str, Any]:
    """Return the parameters of a question."""
    return request_of(user(text("how many?"), image()), **parameters)
