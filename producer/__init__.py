"""Blipline's client: submits jobs about images, and polls their results.

In a checkout of the project this package is `producer`; the wheel installs it as `blipline`.

A name is imported when it is first used: `import blipline` itself costs a millisecond, and a
program that needs only the exceptions does not load the asynchronous client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aio.client import AsyncClient
    from .aio.handles import AsyncBatch, AsyncJob
    from .batch import Batch
    from .client import Client
    from .client.dead_letters import DeadItem, DeadLetter, DeadLetters
    from .contract import Detail, ErrorCode, ItemError, Options, Queue, State, Task
    from .errors import (
        BliplineError,
        ConnectionFailed,
        IdTaken,
        InvalidInput,
        JobCancelled,
        JobError,
        JobExpired,
        JobFailed,
        JobUnknown,
        QueueFull,
        StorageQuotaExceeded,
        WaitTimeout,
    )
    from .job import Job, Match, Result
    from .ledger.delivery_log import WebhookDelivery
    from .ledger.malformed import MalformedMessage
    from .ledger.records import Depth
    from .results.description import Candidate, Description
    from .results.filter_result import FilterResult, ScoredText
    from .results.progress import Progress
    from .results.result import JobProgress
    from .results.text_sequences import ScoredToken, TextSequence
    from .settings import ClientSettings

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncJob",
    "Batch",
    "BliplineError",
    "Candidate",
    "Client",
    "ClientSettings",
    "ConnectionFailed",
    "DeadItem",
    "DeadLetter",
    "DeadLetters",
    "Depth",
    "Description",
    "Detail",
    "ErrorCode",
    "FilterResult",
    "IdTaken",
    "InvalidInput",
    "ItemError",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobProgress",
    "JobUnknown",
    "MalformedMessage",
    "Match",
    "Options",
    "Progress",
    "Queue",
    "QueueFull",
    "Result",
    "ScoredText",
    "ScoredToken",
    "State",
    "StorageQuotaExceeded",
    "Task",
    "TextSequence",
    "WaitTimeout",
    "WebhookDelivery",
]

#: The module of each public name.
_MODULES = {
    "AsyncBatch": ".aio.handles",
    "AsyncClient": ".aio.client",
    "AsyncJob": ".aio.handles",
    "Batch": ".batch",
    "BliplineError": ".errors",
    "Candidate": ".results.description",
    "Client": ".client",
    "ClientSettings": ".settings",
    "ConnectionFailed": ".errors",
    "DeadItem": ".client.dead_letters",
    "DeadLetter": ".client.dead_letters",
    "DeadLetters": ".client.dead_letters",
    "Depth": ".ledger.records",
    "Description": ".results.description",
    "Detail": ".contract",
    "ErrorCode": ".contract",
    "FilterResult": ".results.filter_result",
    "IdTaken": ".errors",
    "InvalidInput": ".errors",
    "ItemError": ".contract",
    "Job": ".job",
    "JobCancelled": ".errors",
    "JobError": ".errors",
    "JobExpired": ".errors",
    "JobFailed": ".errors",
    "JobProgress": ".results.result",
    "JobUnknown": ".errors",
    "MalformedMessage": ".ledger.malformed",
    "Match": ".job",
    "Options": ".contract",
    "Progress": ".results.progress",
    "Queue": ".contract",
    "QueueFull": ".errors",
    "Result": ".job",
    "ScoredText": ".results.filter_result",
    "ScoredToken": ".results.text_sequences",
    "State": ".contract",
    "StorageQuotaExceeded": ".errors",
    "Task": ".contract",
    "TextSequence": ".results.text_sequences",
    "WaitTimeout": ".errors",
    "WebhookDelivery": ".ledger.delivery_log",
}
#: Modules that are public themselves, as `blipline.contract`.
_PUBLIC_MODULES = frozenset({"aio", "contract", "errors"})


if not TYPE_CHECKING:  # With it, a type checker would accept every name.

    def __getattr__(name: str) -> Any:
        """Import a public name, or a public module (PEP 562)."""
        if name in _PUBLIC_MODULES:
            return import_module(f".{name}", __name__)
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # A second thread waits at the import, and stores the same object.
        value = globals()[name] = getattr(import_module(_MODULES[name], __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULES, *_PUBLIC_MODULES})
