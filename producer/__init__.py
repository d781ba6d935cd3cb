"""Blipline's client: submit jobs about images, and poll their results.

In a checkout of the project this package is `producer`; the wheel installs it as `blipline`.
"""

from .batch import Batch, Progress
from .client import Client
from .contract import ErrorCode, ItemError, Options, Queue, State, Task
from .errors import (
    BliplineError,
    ConnectionFailed,
    InvalidInput,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobUnknown,
    WaitTimeout,
)
from .job import Job, Match, Result
from .settings import ClientSettings

__all__ = [
    "Batch",
    "BliplineError",
    "Client",
    "ClientSettings",
    "ConnectionFailed",
    "ErrorCode",
    "InvalidInput",
    "ItemError",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobUnknown",
    "Match",
    "Options",
    "Progress",
    "Queue",
    "Result",
    "State",
    "Task",
    "WaitTimeout",
]
