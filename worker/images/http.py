"""One image from its host, over HTTP: what may pass is tried again while there is time."""

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
#: Seconds to connect: a host that takes longer is down, or out of reach.
CONNECT_S: Final = 5.0
#: Tries at most: a host that is down for good must not hold a thread for all its time.
MAX_TRIES: Final = 6
#: Seconds, at most, before the second try; doubled with each try, up to the longest.
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 4.0
#: Bytes that are read at once, at most.
PIECE_BYTES: Final = 1 << 16
#: Bytes of a redirect's body that are worth reading to use the connection again.
DRAINED_BYTES: Final = 1 << 16


class HttpImages:
    """Image hosts; thread-safe."""

    def __init__(
        self,
        connections: int,
        *,
        timeout_s: float,
        max_bytes: int,
        guard: AddressPolicy,
        resolve: Resolve = getaddrinfo,
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._time_limit = RequestDeadline()
        self._closed = threading.Event()
        self._http = guarded_client(
            guard,
            connections=connections,
            limit=self._time_limit,
            headers={"Accept": "image/*", "Accept-Encoding": "identity"},
            resolve=resolve,
        )

    def close(self) -> None:
        """Drop the connections; nothing is tried again from now on."""
        self._closed.set()
        self._http.close()

    def get(self, url: str, held: ImageReservation) -> bytes:
        """What the host answers, in time: all tries together may take `timeout_s`.

        It does not count what is spent waiting for room; the deadline counts all. Raises Crowded,
        and Refused, whose message leaves out the URL.
        """
        if time.monotonic() >= held.deadline:
            about = "the deadline passed before the host was asked"
            raise ItemRejected(ErrorCode.DEADLINE_EXCEEDED, about)
        began = time.monotonic()
        for tries in range(1, MAX_TRIES + 1):
            try:
                return self._try(url, began, held)
            except TransientError as error:
                # Without its traceback, which still has what was read.
                trouble = TransientError(str(error), error.asked_s)
            # What the host asks for, and full jitter: many are refused at the same moment.
            pause_s = trouble.asked_s + random.uniform(0.0, _longest_pause_s(tries))
            self._check_time(tries, trouble, pause_s, self._limit(began, held), held.deadline)
            self._closed.wait(pause_s)
        raise AssertionError("the last try returns or raises")

    def _limit(self, began: float, held: ImageReservation) -> float:
        return began + self._timeout_s + held.waited_s

    def _check_time(
        self, tries: int, trouble: TransientError, pause_s: float, limit: float, deadline: float
    ) -> None:
        """Raises Refused if there is no time for a pause and another try."""
        about = f"tried {'once' if tries == 1 else f'{tries} times'}, the last trouble: {trouble}"
        now = time.monotonic()
        spent = tries == MAX_TRIES or now + pause_s >= limit
        if now >= deadline or (now + pause_s >= deadline and not spent):
            raise ItemRejected(ErrorCode.DEADLINE_EXCEEDED, f"cut short by the deadline; {about}")
        if now >= limit:
            about = f"not complete after {self._timeout_s:g} s; {about}"
        if spent:
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about)

    def _try(self, url: str, began: float, held: ImageReservation) -> bytes:
        ends = self._time_limit.ends = min(self._limit(began, held), held.deadline)
        # Half of what is left: a host that says nothing leaves time to ask it again, while one
        # that makes progress may go on until the end.
        silence_s = max(0.0, ends - time.monotonic()) / 2
        timeout = httpx.Timeout(silence_s, connect=min(silence_s, CONNECT_S))
        try:
            response = self._open(self._http.build_request("GET", url, timeout=timeout))
            try:
                _check_status(response)
                expected = self._expected_bytes(response)
                return read_within_budget(
                    self._pieces(response, began, held),
                    held,
                    self._max_bytes,
                    piece_bytes=PIECE_BYTES,
                    expected_bytes=expected,
                )
            finally:
                response.close()
        except UrlBlocked as error:
            raise ItemRejected(ErrorCode.IMAGE_BLOCKED, str(error)) from None
        except AddressBlocked as error:
            about = f"{error} (BLIPLINE_FETCH_ALLOW, _DENY, _ONLY)"
            raise ItemRejected(ErrorCode.IMAGE_BLOCKED, about) from None
        except HostUnknown as error:
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, str(error)) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError):
            # Not what they say: it may be the part with the password.
            raise ItemRejected(
                ErrorCode.IMAGE_UNREACHABLE, "no URL that can be asked for"
            ) from None
        except httpx.TransportError as error:
            if isinstance(error.__context__, httpx.InvalidURL):
                about = "redirected to no URL that can be asked for"
                raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about) from None
            raise TransientError(str(error) or type(error).__name__) from None

    def _pieces(
        self, response: httpx.Response, began: float, held: ImageReservation
    ) -> Iterator[bytes]:
        pieces = response.iter_raw()
        while True:
            # Before each, room may have been waited for.
            self._time_limit.ends = min(self._limit(began, held), held.deadline)
            yield next(pieces, b"")

    def _expected_bytes(self, response: httpx.Response) -> int | None:
        """What the host announces; raises Refused for what need not be read, or should not."""
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            # A few bytes become gigabytes; images are compressed already.
            about = "the host compresses the image once more, though it was asked not to"
            raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about)
        announced = response.headers.get("Content-Length", "")
        # What the network gives is cut off where that ends, or ends with an error before.
        return int(announced[:20]) if announced.isdecimal() else None

    def _open(self, request: httpx.Request) -> httpx.Response:
        """The response, redirects followed."""
        for _ in range(MAX_REDIRECTS + 1):
            response = self._http.send(request, stream=True)
            if response.next_request is None:
                return response
            _drain(response)
            request = response.next_request
        raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, f"more than {MAX_REDIRECTS} redirects")


class TransientError(Exception):
    """Trouble that may pass, and the seconds that the host asks to be left alone for."""

    def __init__(self, message: str, asked_s: float = 0.0) -> None:
        super().__init__(message)
        self.asked_s = asked_s


def _check_status(response: httpx.Response) -> None:
    about = f"the host answers {response.status_code}"
    if response.status_code >= 500 or response.status_code == 429:
        asked_s = retry_after_s(response.headers.get("Retry-After", ""))
        if asked_s:
            about += f", and asks to be left alone for {asked_s:.0f} s"
        raise TransientError(about, asked_s)
    if response.status_code != 200:
        raise ItemRejected(ErrorCode.IMAGE_UNREACHABLE, about)


def _drain(response: httpx.Response) -> None:
    """Read what follows a redirect if it is short; httpx itself would read it to any length."""
    read = 0
    for piece in response.iter_raw():
        read += len(piece)
        if read > DRAINED_BYTES:
            break
    response.close()


def _longest_pause_s(tries: int) -> float:
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (tries - 1))
