"""Blipline's client: submits jobs about images, and polls their results.

In a checkout of the project this package is `producer`; the wheel installs it as `blipline`.
"""

from .aio.client import AsyncClient
from .aio.handles import AsyncBatch, AsyncJob
from .batch import Batch
from .client import Client
from .contract import Detail, ErrorCode, ItemError, Options, Queue, State, Task
from .dead_letters import DeadItem, DeadLetter, DeadLetters
from .description import Candidate, Description
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
from .filter_result import FilterResult, ScoredText
from .job import Job, Match, Result
from .ledger.delivery_log import WebhookDelivery
from .ledger.malformed import MalformedMessage
from .ledger.records import Depth
from .progress import Progress
from .settings import ClientSettings
from .text_sequences import ScoredToken, TextSequence

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
