"""HTTP fetches of images, behind the SSRF guard, with retries and jittered backoff."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from socket import getaddrinfo
from typing import Final

import httpx

from producer.contract import ErrorCode
from producer.net.address_policy import AddressBlocked, AddressPolicy
from producer.net.http_client import (
    HostUnknown,
    RequestDeadline,
    Resolve,
    UrlBlocked,
    guarded_client,
    retry_after_s,
)
from worker.errors import ItemRejected
from worker.images.image_budget import ImageReservation, read_within_budget

MAX_REDIRECTS: Final = 5
#: Connection timeout in seconds: a host that takes longer is down or unreachable.
CONNECT_S: Final = 5.0
#: Maximum attempts: a host that is permanently down must not occupy a thread until the time limit.
MAX_ATTEMPTS: Final = 6
#: Maximum seconds before the second attempt; doubled with each attempt, up to MAX_BACKOFF_S.
FIRST_BACKOFF_S: Final = 0.25
MAX_BACKOFF_S: Final = 4.0
#: Maximum bytes per read.
PIECE_BYTES: Final = 1 << 16
#: Maximum bytes of a redirect's body that are read to reuse the connection.
DRAINED_BYTES: Final = 1 << 16


class HttpImages:
    """A client of image hosts; thread-safe."""

    def __init__(
        self,
        connections: int,
        *,
        timeout_s: float,
        max_bytes: int,
        policy: AddressPolicy,
        resolve: Resolve = getaddrinfo,
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._request_deadline = RequestDeadline()
        self._closed = threading.Event()
        self._http = guarded_client(
            policy,
            connections=connections,
            deadline=self._request_deadline,
            headers={"Accept": "image/*", "Accept-Encoding": "identity"},
            resolve=resolve,
        )

    def close(self) -> None:
        """Close the connections and end all retries."""
        self._closed.set()
        self._http.close()

    def get(self, url: str, reservation: ImageReservation) -> bytes:
        """Fetch an image; all attempts together may take `timeout_s`.

        Time spent waiting for memory does not count towards `timeout_s`, but does towards the
        deadline. Raises NoCapacity, and ItemRejected, whose message omits the URL.
        """
        if time.monotonic() >= reservation.deadline:
            message = "the deadline passed before the request was sent"
            raise ItemRejected(ErrorCode.DEADLINE_EXCEEDED, message)
        started = time.monotonic()
        for attempts in range(1, MAX_ATTEMPTS + 1):
            try:
                return self._attempt(url, started, reservation)
            except TransientError as raised:
                # A new exception, because the traceback references the bytes read so far.
                error = TransientError(str(raised), raised.delay_s)
            # The delay that the host requests, plus full jitter: many requests may fail at once.
            pause_s = error.delay_s + random.uniform(0.0, _max_backoff_s(attempts))
            limit = self._limit(started, reservation)
            self._check_time(attempts, error, pause_s, limit, reservation.deadline)
            self._closed.wait(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _limit(self, started: float, reservation: ImageReservation) -> float:
        return started + self._timeout_s + reservation.waited_s

    def _check_time(
        self, attempts: int, error: TransientError, pause_s: float, limit: float, deadline: float
    ) -> None:
        """Raise ItemRejected if there is no time for a pause and another attempt."""
        message = f"tried {'once' if attempts == 1 else f'{attempts} times'}, last error: {error}"
        now = time.monotonic()
        exhausted = attempts == MAX_ATTEMPTS or now + pause_s >= limit
        if now >= deadline or (now + pause_s >= deadline and not exhausted):
            raise ItemRejected(ErrorCode.DEADLINE_EXCEEDED, f"the deadline passed; {message}")
        if now >= limit:
            message = f"not complete after {self._timeout_s:g} s; {message}"
        if exhausted:
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message)

    def _attempt(self, url: str, started: float, reservation: ImageReservation) -> bytes:
        ends = min(self._limit(started, reservation), reservation.deadline)
        self._request_deadline.ends = ends
        # Half of the remaining time: a silent host leaves time for another attempt, while a host
        # that makes progress may continue until the end.
        silence_s = max(0.0, ends - time.monotonic()) / 2
        timeout = httpx.Timeout(silence_s, connect=min(silence_s, CONNECT_S))
        try:
            response = self._open(self._http.build_request("GET", url, timeout=timeout))
            try:
                _check_status(response)
                expected = self._expected_bytes(response)
                return read_within_budget(
                    self._pieces(response, started, reservation),
                    reservation,
                    self._max_bytes,
                    piece_bytes=PIECE_BYTES,
                    expected_bytes=expected,
                )
            finally:
                response.close()
        except UrlBlocked as error:
            raise ItemRejected(ErrorCode.IMAGE_BLOCKED, str(error)) from None
        except AddressBlocked as error:
            message = f"{error} (BLIPLINE_FETCH_ALLOW, _DENY, _ONLY)"
            raise ItemRejected(ErrorCode.IMAGE_BLOCKED, message) from None
        except HostUnknown as error:
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, str(error)) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError):
            # The exception's message may contain the password, so it is omitted.
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, "the URL is not valid") from None
        except httpx.TransportError as error:
            if isinstance(error.__context__, httpx.InvalidURL):
                message = "the host redirects to an invalid URL"
                raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message) from None
            raise TransientError(str(error) or type(error).__name__) from None

    def _pieces(
        self, response: httpx.Response, started: float, reservation: ImageReservation
    ) -> Iterator[bytes]:
        pieces = response.iter_raw()
        while True:
            # Renewed for each piece: the reservation may have waited for memory.
            self._request_deadline.ends = min(
                self._limit(started, reservation), reservation.deadline
            )
            yield next(pieces, b"")

    def _expected_bytes(self, response: httpx.Response) -> int | None:
        """Return the announced size; raise ItemRejected for a body that must not be read."""
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            # A decompression bomb expands a few bytes to gigabytes; images are already compressed.
            message = "the host compresses the image, although the request excludes that"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message)
        announced = response.headers.get("Content-Length", "")
        # The HTTP library truncates a longer body and raises an error for a shorter one.
        return int(announced[:20]) if announced.isdecimal() else None

    def _open(self, request: httpx.Request) -> httpx.Response:
        """Send the request and follow redirects, each checked like the first URL."""
        for _ in range(MAX_REDIRECTS + 1):
            response = self._http.send(request, stream=True)
            if response.next_request is None:
                return response
            _drain(response)
            request = response.next_request
        raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, f"more than {MAX_REDIRECTS} redirects")


class TransientError(Exception):
    """A failure that may be retried, with the delay in seconds that the host requests."""

    def __init__(self, message: str, delay_s: float = 0.0) -> None:
        super().__init__(message)
        self.delay_s = delay_s


def _check_status(response: httpx.Response) -> None:
    message = f"the host answers {response.status_code}"
    if response.status_code >= 500 or response.status_code == 429:
        delay_s = retry_after_s(response.headers.get("Retry-After", ""))
        if delay_s:
            message += f" and requests a delay of {delay_s:.0f} s"
        raise TransientError(message, delay_s)
    if response.status_code != 200:
        raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, message)


def _drain(response: httpx.Response) -> None:
    """Read a redirect's body if it is short; httpx itself would read any length."""
    read = 0
    for piece in response.iter_raw():
        read += len(piece)
        if read > DRAINED_BYTES:
            break
    response.close()


def _max_backoff_s(attempts: int) -> float:
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (attempts - 1))
