"""HTTP to hosts that somebody else named: image hosts, and receivers of webhooks.

A guarded client connects to allowed addresses only, and never for longer than its time limit says.
httpx is an extra of the wheel: whoever imports this needs it.

AddressBlocked: the host, or the address that it resolved to, is not allowed.
└── UrlBlocked: the URL itself is not; no setting allows it.
HostUnknown: there is no such host, or it cannot prove that it is the one; this will not change.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpcore
import httpx

from .address_policy import AddressBlocked, AddressPolicy

#: What a resolver says of names that do not exist; all else that it says may pass.
_NO_SUCH_NAME: Final = (socket.EAI_NONAME, socket.EAI_NODATA)
#: As it is asked for: after lower case, and after names in other scripts have become `xn--…`.
_HOST: Final = re.compile(r"[a-z0-9_.-]+")

#: A function that answers as `socket.getaddrinfo` does.
Resolve = Callable[..., list[Any]]


class UrlBlocked(AddressBlocked):
    """Neither a setting nor another address would make this URL one that is asked for."""


class HostUnknown(Exception):
    """The host does not exist or cannot prove that it is the one; asking again is no use."""


class RequestDeadline(threading.local):
    """When the request of this very thread ends: a request is sent and read by one thread."""

    #: On the monotonic clock.
    ends: float = math.inf

    def within(self, timeout: float | None) -> float | None:
        """The timeout, or what is left if that is less; raises TimeoutException if nothing is."""
        left_s = self.ends - time.monotonic()
        if left_s <= 0:
            raise httpcore.TimeoutException("timed out")
        if timeout is not None:
            return min(timeout, left_s)
        return None if left_s == math.inf else left_s


def guarded_client(
    guard: AddressPolicy,
    *,
    connections: int,
    limit: RequestDeadline,
    headers: Mapping[str, str] | None = None,
    resolve: Resolve = socket.getaddrinfo,
    verify: ssl.SSLContext | bool = True,
) -> httpx.Client:
    """A client that is safe to be sent anywhere; thread-safe, keeps connections for later.

    Follows no redirect by itself; each that its user follows is checked as the first URL was.
    Requests raise AddressBlocked and HostUnknown beside httpx's own errors. One thing knows no time
    limit but the resolver's own: looking up a name.
    """
    for name in ("httpx", "httpcore"):
        # They log whole URLs, and those may carry secrets.
        logging.getLogger(name).setLevel(logging.WARNING)
    return httpx.Client(
        transport=_Transport(guard, _Network(guard, limit, resolve), connections, verify),
        # A proxy from the environment would look names up itself, behind the check.
        trust_env=False,
        # One user's host must not know the next user's by what it left here.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": "blipline", **(headers or {})},
    )


def host_of(url: str) -> str:
    """The host that a URL names, for turns and logs; empty where it names none."""
    try:
        return httpx.URL(url).host.removesuffix(".")
    except (httpx.InvalidURL, ValueError):
        return ""


def retry_after_s(value: str) -> float:
    """Seconds from now that a Retry-After header asks for (RFC 9110, 10.2.3); 0 for nonsense."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - time.time())


class _Transport(httpx.HTTPTransport):
    """Looks at every URL before it is asked for, redirects included."""

    def __init__(
        self,
        guard: AddressPolicy,
        network: _Network,
        connections: int,
        verify: ssl.SSLContext | bool,
    ) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        super().__init__(verify=verify, limits=limits)
        # httpx offers no argument for its pool's network backend.
        self._pool._network_backend = network
        self._guard = guard

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _check_url(request.url)
        self._guard.check_name(_host(request.url))
        return super().handle_request(request)


def _check_url(url: httpx.URL) -> None:
    """Raises UrlBlocked for what no URL of an image or a webhook needs."""
    if url.scheme not in ("http", "https"):
        raise UrlBlocked("only http and https are asked")
    if url.userinfo:
        raise UrlBlocked("a URL with a user name or password in it is not asked")
    # Readers of URLs do not agree on what they make of any other host.
    host = _host(url)
    if not _HOST.fullmatch(host) and not _is_ipv6(host):
        raise UrlBlocked("it names no host in plain letters, digits, dots and hyphens")
    if url.port is not None and not 0 < url.port < 1 << 16:
        raise UrlBlocked("it names no port")


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii")


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


class _Network(httpcore.SyncBackend):
    """Connects to the very addresses that were checked, and keeps to the thread's time limit."""

    def __init__(self, guard: AddressPolicy, limit: RequestDeadline, resolve: Resolve) -> None:
        self._guard = guard
        self._limit = limit
        self._resolve = resolve

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._addresses(host, port)
        # A name with one address inside and one outside is either broken or an attack.
        for address in addresses:
            self._guard.check(host, address)
        # One address that swallows packets must not take the time of the others.
        share_s = None if timeout is None else timeout / max(1, len(addresses))
        trouble: Exception = httpcore.ConnectError(f"{host}: no address")
        for address in addresses:
            try:
                # An address, not the name: nothing is looked up after the check.
                stream = super().connect_tcp(
                    address, port, self._limit.within(share_s), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
            else:
                return _LimitedStream(stream, self._limit)
        raise trouble

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = self._resolve(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise HostUnknown(f"{host}: no name that can be looked up") from None
        except OSError as error:
            about = f"{host}: {error.strerror or error}"
            if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
                raise HostUnknown(about) from None
            raise httpcore.ConnectError(about) from None
        return [str(entry[4][0]) for entry in found]


class _LimitedStream(httpcore.NetworkStream):
    """A host that drips a byte a second passes every single read, but not their sum."""

    def __init__(self, stream: httpcore.NetworkStream, limit: RequestDeadline) -> None:
        self._stream = stream
        self._limit = limit

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._limit.within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._limit.within(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            # Python takes this timeout as one for the whole handshake.
            stream = self._stream.start_tls(
                ssl_context, server_hostname, self._limit.within(timeout)
            )
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                about = f"{server_hostname}: {error.__cause__.verify_message}"
                raise HostUnknown(about) from None
            raise
        return _LimitedStream(stream, self._limit)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
