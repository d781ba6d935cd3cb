"""Ids of jobs and batches."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from typing import Final

#: The account at the beginning of an inner id of the gateway (`account_of` in usage.lua).
_ACCOUNT: Final = re.compile(r"([a-z0-9][a-z0-9-]*)\.(?:job|batch)\.")


def new_id() -> str:
    """Return a new job or batch id: a UUID of version 7, which contains its creation time."""
    stamp = int(time.time() * 1000) << 80
    random = secrets.randbits(74)
    value = stamp | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return str(uuid.UUID(int=value))


def created_at(job_or_batch_id: str) -> float | None:
    """Return the creation time of a UUID of version 7 (Unix seconds); None for any other id."""
    try:
        value = uuid.UUID(job_or_batch_id)
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == 7 else None


def chunk_id(batch_id: str, number: int) -> str:
    """Return the task id of a batch's chunk; no list of ids is stored."""
    return f"{batch_id}:{number}"


def parse_chunk_id(task_id: str) -> tuple[str, int] | None:
    """Return the batch id and chunk number of a task id; None if it is not a chunk of a batch."""
    batch_id, colon, number = task_id.rpartition(":")
    return (batch_id, int(number)) if colon and number.isdecimal() else None


def account_of(task_or_batch_id: str) -> str:
    """Return the account that a job or batch belongs to; empty for an id without one.

    An account is the name of API keys. Redis counts its stored bytes and knows its uploads.
    """
    match = _ACCOUNT.match(task_or_batch_id)
    return "" if match is None else match[1]
