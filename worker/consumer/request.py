"""Celery's request of a task, for messages of the ledger and of other programs."""

from __future__ import annotations

import re
from typing import Any, Final

from celery.worker.request import Request

#: Form of a job record's generation (see producer/ledger/message.py).
_GENERATION: Final = re.compile(r"[0-9a-f]{12}")


def ledger_generation(request: Any) -> str:
    """Return the generation in a task's context; '' for another program's message."""
    arguments = (getattr(request, name, None) for name in ("args", "kwargs"))
    return _generation(getattr(request, "entry", None), *arguments)


def _generation(header: Any, args: Any, kwargs: Any) -> str:
    """Return the generation if the message is that of a job, which has no arguments.

    The job's record contains the payload. Another program may use a header of the same name.
    """
    is_job = isinstance(header, str) and _GENERATION.fullmatch(header) and not (args or kwargs)
    return header if is_job else ""


class LedgerRequest(Request):
    """A request whose revocation the ledger decides.

    A consumer remembers a revoked id for three hours, and would discard a job that is retried in
    that time. The result backend has ended the job of the ledger at the revocation, so the claim of
    its message finds the result.
    """

    def revoked(self) -> bool:
        """Return whether to discard the message."""
        generation = _generation(self.request_dict.get("entry"), self.args, self.kwargs)
        return not generation and bool(super().revoked())

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Stop the task with the next heartbeat: a thread cannot be killed."""
        self.task.backend.mark_as_revoked(self.id, reason="terminated")
