"""HTTP client for webhook receivers, and the interpretation of their responses."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

import httpx

from ..net.address_policy import AddressBlocked, AddressPolicy
from ..net.http_client import HostUnknown, RequestDeadline, guarded_client, retry_after_s
from .payload import WebhookMessage

#: Seconds for a request and its response, in total.
SEND_S: Final = 10.0
#: Seconds to connect; a host that needs longer is down or unreachable.
CONNECT_S: Final = 5.0
#: Maximum bytes of a response that are read and discarded, so that the connection can be reused.
MAX_DRAINED_BYTES: Final = 4096
#: Statuses whose Retry-After header is honoured.
_RETRY_AFTER_STATUSES: Final = (429, 503)


class Verdict(Enum):
    """The decision after one delivery attempt."""

    DELIVERED = "delivered"
    #: A later attempt may succeed.
    RETRY = "retry"
    #: No later attempt will succeed, or the receiver asked for none.
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of one delivery attempt."""

    verdict: Verdict
    #: Short description for the log, without the URL.
    detail: str
    #: Delay that the receiver requested, in seconds.
    retry_after_s: float = 0.0
    #: Status of the response; None if there was none.
    status_code: int | None = None


class WebhookClient:
    """A client that sends webhooks to allowed URLs only (SSRF guard); thread-safe."""

    def __init__(self, policy: AddressPolicy, connections: int, send_s: float = SEND_S) -> None:
        self.send_s = send_s
        self._deadline = RequestDeadline()
        self._http = guarded_client(policy, connections=connections, deadline=self._deadline)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, url: str, message: WebhookMessage) -> Delivery:
        """Send a message and wait up to `send_s` seconds for the response; never raises."""
        self._deadline.ends = time.monotonic() + self.send_s
        try:
            return self._post(url, message)
        except AddressBlocked as error:
            return Delivery(Verdict.GIVE_UP, f"blocked: {error}")
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError):
            # Their messages may contain parts of the URL.
            return Delivery(Verdict.GIVE_UP, "not a valid URL")
        except HostUnknown as error:
            return Delivery(Verdict.RETRY, str(error))
        except httpx.TimeoutException:
            return Delivery(Verdict.RETRY, f"no response within {self.send_s:g} s")
        except httpx.ConnectError as error:
            return Delivery(Verdict.RETRY, f"no connection: {error!s:.100}")
        except httpx.RequestError as error:
            # Its message may contain the receiver's text, such as a redirect to an invalid URL.
            return Delivery(Verdict.RETRY, f"unreadable response: {type(error).__name__}")

    def _post(self, url: str, message: WebhookMessage) -> Delivery:
        timeout = httpx.Timeout(self.send_s, connect=min(self.send_s, CONNECT_S))
        request = self._http.build_request(
            "POST", url, content=message.body, headers=message.headers, timeout=timeout
        )
        response = self._http.send(request, stream=True, follow_redirects=False)
        try:
            _drain(response)
        finally:
            response.close()
        return delivery_of(response.status_code, response.headers.get("Retry-After", ""))


def delivery_of(status: int, retry_after: str = "") -> Delivery:
    """Return the result for a response's status and its Retry-After header."""
    if 200 <= status < 300:
        return Delivery(Verdict.DELIVERED, str(status), status_code=status)
    if status == 410:
        return Delivery(Verdict.GIVE_UP, "410: gone", status_code=status)
    if 300 <= status < 400:
        detail = f"{status}: redirects are not followed"
        return Delivery(Verdict.RETRY, detail, status_code=status)
    delay_s = retry_after_s(retry_after) if status in _RETRY_AFTER_STATUSES else 0.0
    return Delivery(Verdict.RETRY, str(status), delay_s, status)


def _drain(response: httpx.Response) -> None:
    """Read a body that is declared as short; otherwise the connection is closed."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and len(length) < 9 and int(length) <= MAX_DRAINED_BYTES:
        # The status has arrived, so errors in the body do not change the result.
        with suppress(httpx.RequestError):
            for _ in response.iter_raw():
                pass
