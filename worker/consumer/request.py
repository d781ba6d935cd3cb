"""Celery's request of a task, for messages of the ledger and of other programs."""

from __future__ import annotations

import re
from typing import Any, Final

from celery.exceptions import Ignore
from celery.worker.request import Request

from producer.ledger.item_summary import summarize

#: Form of a job record's generation (see producer/ledger/message.py).
_GENERATION: Final = re.compile(r"[0-9a-f]{12}")

#: Maximum characters of a summary that a producer has sent.
MAX_SUMMARY_CHARS: Final = 400


class ChunkRevoked(Ignore):
    """The end of a chunk without a success: its items were cancelled, or its job was deleted."""


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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._argsrepr, self._kwargsrepr = "", self._summary()
        # Celery's log messages read the headers.
        self._request_dict.update(argsrepr=self._argsrepr, kwargsrepr=self._kwargsrepr)

    def _summary(self) -> str:
        """Return the text that monitors show: neither images nor secrets, and always short."""
        if self._generation():
            return str(self._request_dict.get("kwargsrepr") or "")[:MAX_SUMMARY_CHARS]
        items = self.kwargs.get("items", next(iter(self.args), None))
        return summarize(items) if isinstance(items, list) else "no list of items"

    def _generation(self) -> str:
        return _generation(self.request_dict.get("entry"), self.args, self.kwargs)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return the fields that a monitor shows; the arguments only as a summary."""
        fields: dict[str, Any] = super().info(safe=True)
        return fields

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        """Tell monitors that a cancelled or deleted chunk has ended, in addition."""
        error = exc_info.exception
        # billiard wraps exceptions for the pipe of a process pool.
        if isinstance(getattr(error, "exc", error), ChunkRevoked):
            self.send_event("task-revoked", terminated=True, signum=None, expired=False)
        return super().on_failure(exc_info, *args, **kwargs)

    def revoked(self) -> bool:
        """Return whether to discard the message."""
        return not self._generation() and bool(super().revoked())

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Stop the task with the next heartbeat: a thread cannot be killed."""
        self.task.backend.mark_as_revoked(self.id, reason="terminated")
