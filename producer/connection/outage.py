"""Outages of Redis: which errors are transient, and for how long a client rides them out.

A client rides out an outage only after Redis has answered it once: a wrong URL fails at once. The
limit counts from the first failure of all calls of a client, so that calls do not queue up behind
each other's waits during a long outage.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

#: Seconds for which workers ride out an outage, also before the first answer.
WORKER_WAIT_S: Final = 600.0
#: Attempts after the first one that every call makes: a broken connection is not an outage.
QUICK_RETRIES: Final = 2
#: Errors of a silent server or network, after seconds each: an outage from the first one on.
_TIMEOUTS: Final = (redis.TimeoutError, TimeoutError)

#: Codes of errors that pass: of a server that is not, or not yet, the master with its replicas; of
#: one that loads its file, runs a long script or cannot save. They are searched for in the message,
#: since Redis 6 wraps the error of a command in a script.
_TRANSIENT_CODES: Final = (
    *("READONLY", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED"),
    *("LOADING", "BUSY ", "MISCONF"),
)
#: Errors whose code redis-py has removed from the message.
_TRANSIENT_ERRORS: Final = (redis.exceptions.ReadOnlyError, redis.exceptions.MasterDownError)
#: Errors that the same request would meet again.
_PERMANENT_ERRORS: Final = (redis.AuthenticationError, redis.exceptions.AuthorizationError)
_BACKOFF: Final = ExponentialWithJitterBackoff(base=0.05, cap=2.0)

#: Upper limit of the calls in this context, in seconds.
_limit_s: ContextVar[float] = ContextVar("outage_limit_s", default=math.inf)

log = logging.getLogger("blipline.redis")


@contextmanager
def outage_limit(seconds: float | None) -> Iterator[None]:
    """Ride out an outage for at most `seconds` in each call of the block; None: no limit."""
    token = _limit_s.set(math.inf if seconds is None else seconds)
    try:
        yield
    finally:
        _limit_s.reset(token)


def outage_limit_s() -> float:
    """Return the limit that `outage_limit` has set; infinite without one."""
    return _limit_s.get()


class Outage:
    """The outage of one Redis that all connections of a client share; thread-safe.

    `server` is the name for log messages. A client that has `reached` its server rides out every
    outage for `limit_s` seconds.
    """

    def __init__(self, server: str, limit_s: float, *, reached: bool = False) -> None:
        self._server = server
        self.limit_s = limit_s
        self._reached = reached
        #: Time of the first failure since the last answer, by the monotonic clock.
        self._since: float | None = None
        self._is_logged = False

    def reach(self) -> None:
        """Record that the server accepted a connection."""
        self._reached = True

    def end(self) -> None:
        """Record an answer to a command."""
        self._reached, self._since = True, None
        if self._is_logged:
            self._is_logged = False
            log.warning("Redis at %s answers again", self._server)

    def record(self, error: BaseException) -> None:
        """Record a failure."""
        self._since = self._since or time.monotonic()
        # An error that a server sends shows that the address is right.
        self._reached = self._reached or _is_answer(error)

    def rides_out(self, error: BaseException, failing_since: float) -> bool:
        """Return whether a caller that fails since a monotonic time should try again."""
        if not self._reached or not is_retryable_error(error):
            return False
        since = min(self._since or failing_since, failing_since)
        return time.monotonic() < since + min(self.limit_s, outage_limit_s())

    def log_wait(self, error: BaseException) -> None:
        """Log that calls wait, once for each outage."""
        if not self._is_logged:
            self._is_logged = True
            message = "Redis at %s: %s. Trying again for up to %g s"
            log.warning(message, self._server, str(error).rstrip("."), self.limit_s)

    def stop(self) -> None:
        """End all waits: calls fail at their next attempt."""
        self.limit_s = 0.0


class OutageRetry(Retry):
    """redis-py's retry policy of one client: it repeats commands and connects during an outage.

    redis-py nests such calls: a command connects, and a pool's checkout too. Only the outermost
    call repeats; otherwise the attempts would multiply.
    """

    def __init__(self, outage: Outage) -> None:
        errors = (redis.ConnectionError, redis.TimeoutError, TimeoutError, redis.ResponseError)
        super().__init__(_BACKOFF, QUICK_RETRIES, errors)
        self._outage = outage
        self._thread = threading.local()

    def __deepcopy__(self, memo: Any) -> OutageRetry:
        # redis-py copies the policy for each connection; all of them share the outage.
        return self

    def call_with_retry(
        self,
        do: Callable[[], Any],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Any:
        def note_failure(error: Exception, failures: int) -> None:
            fail(*(error, failures) if with_failure_count else (error,))

        if getattr(self._thread, "is_calling", False):
            return self._call_once(do, note_failure)
        answer = self._repeat(do, note_failure, is_retryable)
        self._outage.end()
        return answer

    def check_out(self, get_connection: Callable[[], Any]) -> Any:
        """Return a pool's connection; try again unless all its connections are in use."""

        def ignore(error: Exception, failures: int) -> None:
            pass

        # An open connection is no answer: the outage continues.
        return self._repeat(get_connection, ignore, _is_outage)

    def _repeat(
        self,
        do: Callable[[], Any],
        note_failure: Callable[[Exception, int], None],
        is_retryable: Callable[[Exception], bool] | None,
    ) -> Any:
        failures, failing_since = 0, 0.0
        while True:
            self._thread.is_calling = True
            try:
                return do()
            except self._supported_errors as error:
                if not is_retryable_error(error) or (is_retryable and not is_retryable(error)):
                    raise
                failures += 1
                failing_since = failing_since or time.monotonic()
                self._outage.record(error)
                note_failure(error, failures)
                if failures > QUICK_RETRIES or isinstance(error, _TIMEOUTS):
                    if not self._outage.rides_out(error, failing_since):
                        raise
                    self._outage.log_wait(error)
            finally:
                self._thread.is_calling = False
            time.sleep(_BACKOFF.compute(failures))

    def _call_once(
        self, do: Callable[[], Any], note_failure: Callable[[Exception, int], None]
    ) -> Any:
        try:
            answer = do()
        except self._supported_errors as error:
            note_failure(error, 1)
            raise
        self._outage.reach()
        return answer


def is_transient(error: Exception) -> bool:
    """Return whether an error is temporary: a full Redis, or one that a retry may reach."""
    return is_out_of_memory(error) or is_retryable_error(error)


def is_retryable_error(error: BaseException) -> bool:
    """Return whether a retry over a new connection may succeed."""
    if isinstance(error, redis.ResponseError):
        return isinstance(error, _TRANSIENT_ERRORS) or any(
            code in str(error) for code in _TRANSIENT_CODES
        )
    if isinstance(error, _PERMANENT_ERRORS) or has_invalid_certificate(error):
        return False
    return isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether Redis is out of memory; older servers wrap the error of a script."""
    if isinstance(error, redis.OutOfMemoryError):
        return True
    return isinstance(error, redis.ResponseError) and "OOM command not allowed" in str(error)


def has_invalid_certificate(error: BaseException) -> bool:
    """Return whether an error was caused by a server's certificate."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _is_answer(error: BaseException) -> bool:
    return isinstance(
        error, redis.ResponseError | redis.exceptions.BusyLoadingError
    ) or "max number of clients" in str(error)


def _is_outage(error: Exception) -> bool:
    return not isinstance(error, redis.exceptions.MaxConnectionsError)
