"""The exceptions of a producer.

::

    BliplineError
    ├── InvalidInput         an argument is invalid: an image, a question, an option, a setting
    │   └── IdTaken          the chosen id belongs to another job or batch
    ├── ConnectionFailed     Redis is unreachable, or rejected the command
    ├── QueueFull            there is no capacity for more work now
    │   └── StorageQuotaExceeded  an API key's name has used its quota of stored bytes
    ├── WaitTimeout          there was no result before the timeout; the job continues
    └── JobError             the job has ended, and there is no result
        ├── JobFailed        it ended with an error, named by `code`
        ├── JobCancelled     it was cancelled
        ├── JobExpired       it ended, and its result has expired
        └── JobUnknown       no job of this id was submitted to this Redis
"""

from __future__ import annotations

from .enums import ErrorCode


class BliplineError(Exception):
    """The root of all exceptions that this package defines."""

    #: A short, stable name for programs.
    code = "error"


class InvalidInput(BliplineError, ValueError):
    """An argument is invalid, and nothing was submitted; the message names it and the remedy."""

    code = ErrorCode.OPTION_INVALID.value

    def __init__(self, message: str, code: ErrorCode = ErrorCode.OPTION_INVALID) -> None:
        super().__init__(message)
        self.code = code.value


class IdTaken(InvalidInput):
    """The chosen id belongs to another job or batch."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = "id_taken"


class ConnectionFailed(BliplineError, ConnectionError):
    """Redis is unreachable, or rejected the command."""

    code = "connection_failed"


class QueueFull(BliplineError):
    """There is no capacity for more work now: try again later."""

    code = "queue_full"
    #: Seconds to wait before the next attempt.
    retry_after_s = 5.0


class StorageQuotaExceeded(QueueFull):
    """The name of an API key has used its quota of stored bytes; the message has the remedy."""

    code = "quota_exceeded"
    retry_after_s = 30.0


class WaitTimeout(BliplineError, TimeoutError):
    """There was no result before the timeout; the job itself continues."""

    code = "wait_timeout"


class JobError(BliplineError):
    """The job has ended, and there is no result."""


class JobFailed(JobError):
    """The job ended with an error; `code` is one of the contract's error codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class JobCancelled(JobError):
    """The job was cancelled."""

    code = "cancelled"


class JobExpired(JobError):
    """The job has ended, and its result has expired."""

    code = "expired"


class JobUnknown(JobError):
    """No job of this id was submitted to this Redis."""

    code = "unknown"
