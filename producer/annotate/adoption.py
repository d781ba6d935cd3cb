"""Batches of a killed run: their answers are read before new work is submitted."""

from __future__ import annotations

from contextlib import suppress

from ..client import Client
from ..errors import BliplineError, JobUnknown
from .flight import parse_custom_id
from .storage.item import StoredAnswer
from .storage.journal import Journal


def adopt(client: Client, journal: Journal) -> int:
    """Store the answers of batches that an earlier run submitted; return their number.

    A batch that Redis has forgotten, and items that failed or were cancelled with that run, are
    ignored: their images are submitted again.
    """
    answers = 0
    for batch_id in journal.open_batches():
        batch = client.batch(batch_id)
        with suppress(JobUnknown):
            # The earlier run may have died within the submission.
            batch.close()
            for result in batch.results(as_completed=True):
                ids = parse_custom_id(result.custom_id)
                if ids is not None and result.error is None:
                    journal.store_answer(*ids, StoredAnswer(result.text or ""))
                    answers += 1
        journal.close_batch(batch_id)
        journal.commit()
        with suppress(BliplineError):
            batch.delete(keep_cached=True)
    return answers
