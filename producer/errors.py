"""What can go wrong for a producer.

::

    BliplineError
    ├── InvalidInput         the call itself is wrong: an image, a question, an option, a setting
    │   └── IdTaken          the id that was chosen is that of something else
    ├── ConnectionFailed     Redis cannot be reached, or refused the command
    ├── QueueFull            there is no room for more work now
    ├── WaitTimeout          no result within the time given; the job goes on
    └── JobError             the job is over, and there is no answer
        ├── JobFailed        it ended with an error of its own, named by `code`
        ├── JobCancelled     somebody cancelled it
        ├── JobExpired       it finished, and its result is no longer kept
        └── JobUnknown       no job of this id was ever submitted here
"""

from __future__ import annotations

from .contract import ErrorCode


class BliplineError(Exception):
    """Root of everything that this package raises on purpose."""

    #: A short, stable name for programs.
    code = "error"


class InvalidInput(BliplineError, ValueError):
    """The call is wrong and was not submitted; the message names the thing and the remedy."""

    code = ErrorCode.OPTION_INVALID.value

    def __init__(self, message: str, code: ErrorCode = ErrorCode.OPTION_INVALID) -> None:
        super().__init__(message)
        self.code = code.value


class IdTaken(InvalidInput):
    """The id that was chosen is that of another job or batch."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = "id_taken"


class ConnectionFailed(BliplineError, ConnectionError):
    """Redis cannot be reached, or refused the command."""

    code = "connection_failed"


class QueueFull(BliplineError):
    """There is no room for more work now: try again later."""

    code = "queue_full"
    #: Seconds after which it is worth trying again.
    retry_after_s = 5.0


class WaitTimeout(BliplineError, TimeoutError):
    """The result did not come within the time given; the job itself goes on."""

    code = "wait_timeout"


class JobError(BliplineError):
    """The job is over, and there is no answer."""


class JobFailed(JobError):
    """The job ended with an error of its own; `code` is one of the contract's error codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class JobCancelled(JobError):
    """Somebody cancelled the job."""

    code = "cancelled"


class JobExpired(JobError):
    """The job finished, and its result is no longer kept."""

    code = "expired"


class JobUnknown(JobError):
    """No job of this id was ever submitted here."""

    code = "unknown"
