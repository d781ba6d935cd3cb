"""The header `Idempotency-Key`: a repeated request with the same key is the same job or batch."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from fastapi import Request

from ..http.problems import Problem

HEADER: Final = "Idempotency-Key"
#: Maximum characters of a key.
MAX_CHARS: Final = 255
#: Beginning of the ids of such jobs.
_PREFIX: Final = "idem-"

#: The header in the OpenAPI description.
IDEMPOTENCY_KEY: Final[dict[str, Any]] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A value that you choose for the request. Repeating the request with the same "
    "value returns the same job or batch; a different request with it is a 409.",
    "schema": {"type": "string", "pattern": r"^[!-~]{1,255}$"},
    "example": "order-1234",
}


def idempotent_id(request: Request) -> str | None:
    """Return the id of the job or batch for a request's key; None without a key. Raises Problem.

    The ledger compares the payloads of jobs with the same id, and of the chunks of a batch, and
    stores their digests as long as the job or batch.
    """
    keys = request.headers.getlist(HEADER)
    if not keys:
        return None
    if len(keys) > 1 or not 0 < len(keys[0]) <= MAX_CHARS:
        raise Problem("option_invalid", f"{HEADER}: one value of 1 to {MAX_CHARS} characters")
    return _PREFIX + hashlib.sha256(keys[0].encode()).hexdigest()[:40]


def is_of_key(public_id: str) -> bool:
    """Return whether this is the id of a job or batch with a key."""
    return public_id.startswith(_PREFIX)


def id_taken(public_id: str) -> Problem:
    """Return the problem for an id, or a key, of a job with another payload."""
    if is_of_key(public_id):
        detail = f"{HEADER}: a different request has this key; choose another key"
    else:
        detail = f"id={public_id!r}: a different job has this id; choose another id"
    return Problem("id_taken", detail)
