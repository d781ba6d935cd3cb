"""Those whom webhooks tell: sending them a request, and what their answers mean."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

import httpx

from ..net.address_policy import AddressBlocked, AddressPolicy
from ..net.http_client import HostUnknown, RequestDeadline, guarded_client, retry_after_s
from .payload import Message

#: Seconds for a request and its answer, all in all.
SEND_S: Final = 10.0
#: Seconds to connect: a host that takes longer is down, or out of reach.
CONNECT_S: Final = 5.0
#: Bytes of an answer that are worth reading to use the connection again; nobody looks at them.
DRAINED_BYTES: Final = 4096
#: Statuses at which a receiver says when to come again.
_BUSY: Final = (429, 503)


class Verdict(Enum):
    """What an answer means for the end that was told of."""

    #: The receiver has it.
    DELIVERED = "told"
    #: It may have it later.
    RETRY = "again"
    #: It never will, or does not want it.
    GIVE_UP = "never"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one try went."""

    verdict: Verdict
    #: A few words without the URL.
    about: str
    #: Seconds that the receiver asks to be left alone for.
    asked_s: float = 0.0


class WebhookClient:
    """Sends to any URL that the guard allows; thread-safe."""

    def __init__(self, guard: AddressPolicy, connections: int, send_s: float = SEND_S) -> None:
        self.send_s = send_s
        self._limit = RequestDeadline()
        self._http = guarded_client(guard, connections=connections, limit=self._limit)

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    def send(self, url: str, message: Message) -> Delivery:
        """Send it, and wait for the answer for so long at most; raises nothing."""
        self._limit.ends = time.monotonic() + self.send_s
        try:
            return self._tell(url, message)
        except AddressBlocked as error:
            return Delivery(Verdict.GIVE_UP, f"blocked: {error}")
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError):
            # Not what they say: it may be a part of the URL.
            return Delivery(Verdict.GIVE_UP, "not a URL that can be asked")
        except HostUnknown as error:
            return Delivery(Verdict.RETRY, str(error))
        except httpx.TimeoutException:
            return Delivery(Verdict.RETRY, f"no answer within {self.send_s:g} s")
        except httpx.ConnectError as error:
            return Delivery(Verdict.RETRY, f"no connection: {error!s:.100}")
        except httpx.RequestError as error:
            # A redirect to no URL at all, say; its message would hold what the receiver said.
            return Delivery(Verdict.RETRY, f"no answer that can be read: {type(error).__name__}")

    def _tell(self, url: str, message: Message) -> Delivery:
        timeout = httpx.Timeout(self.send_s, connect=min(self.send_s, CONNECT_S))
        request = self._http.build_request(
            "POST", url, content=message.body, headers=message.headers, timeout=timeout
        )
        response = self._http.send(request, stream=True, follow_redirects=False)
        try:
            _drain(response)
        finally:
            response.close()
        return read(response.status_code, response.headers.get("Retry-After", ""))


def read(status: int, retry_after: str = "") -> Delivery:
    """What a status means, and the Retry-After header that came with it."""
    if 200 <= status < 300:
        return Delivery(Verdict.DELIVERED, str(status))
    if status == 410:
        return Delivery(Verdict.GIVE_UP, "410: gone")
    if 300 <= status < 400:
        return Delivery(Verdict.RETRY, f"{status}: redirects are not followed")
    asked_s = retry_after_s(retry_after) if status in _BUSY else 0.0
    return Delivery(Verdict.RETRY, str(status), asked_s)


def _drain(response: httpx.Response) -> None:
    """Read a body that says it is short; with others the connection is closed."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and len(length) < 9 and int(length) <= DRAINED_BYTES:
        # The status has been said: how the rest goes changes nothing.
        with suppress(httpx.RequestError):
            for _ in response.iter_raw():
                pass
