"""Ids of jobs and batches."""

from __future__ import annotations

import secrets
import time
import uuid


def new_id() -> str:
    """A job or batch id: a UUID of version 7, so that it tells when it was made."""
    stamp = int(time.time() * 1000) << 80
    random = secrets.randbits(74)
    value = stamp | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return str(uuid.UUID(int=value))


def made_at(job_or_batch_id: str) -> float | None:
    """When an id of ours was made (Unix seconds); None for any other."""
    try:
        value = uuid.UUID(job_or_batch_id)
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == 7 else None


def chunk_id(batch_id: str, number: int) -> str:
    """Task id of a batch's chunk, so that a batch needs no list of them."""
    return f"{batch_id}:{number}"


def parse_chunk_id(task_id: str) -> tuple[str, int] | None:
    """Batch id and chunk number of a task id, or None when it is no chunk of a batch."""
    batch_id, colon, number = task_id.rpartition(":")
    return (batch_id, int(number)) if colon and number.isdecimal() else None
