"""An HTTP client with an SSRF guard, for image hosts and webhook receivers that users name.

A guarded client connects only to allowed addresses, and every request has a deadline. It needs
httpx, an extra of the wheel.

AddressBlocked: the host, or the address that it resolved to, is not allowed.
└── UrlBlocked: the URL itself is not allowed under any settings.
HostUnknown: the host does not exist, or cannot prove its identity; an immediate retry is useless.
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

#: Errors of a resolver for names that do not exist; its other errors are temporary.
_NO_SUCH_NAME: Final = (socket.EAI_NONAME, socket.EAI_NODATA)
#: A host name after conversion to lower case and, from other scripts, to `xn--…`.
_HOST: Final = re.compile(r"[a-z0-9_.-]+")

#: A resolver with the signature of `socket.getaddrinfo`.
Resolve = Callable[..., list[Any]]


class UrlBlocked(AddressBlocked):
    """The URL is not allowed at any address and under any settings."""


class HostUnknown(Exception):
    """The host does not exist, or cannot prove its identity; an immediate retry is useless."""


class RequestDeadline(threading.local):
    """The deadline of this thread's request: one thread sends it and reads its response."""

    #: Time on the monotonic clock.
    ends: float = math.inf

    def within(self, timeout: float | None) -> float | None:
        """Limit the timeout to the remaining time; raise TimeoutException if none remains."""
        remaining_s = self.ends - time.monotonic()
        if remaining_s <= 0:
            raise httpcore.TimeoutException("timed out")
        if timeout is not None:
            return min(timeout, remaining_s)
        return None if remaining_s == math.inf else remaining_s


def guarded_client(
    policy: AddressPolicy,
    *,
    connections: int,
    deadline: RequestDeadline,
    headers: Mapping[str, str] | None = None,
    resolve: Resolve = socket.getaddrinfo,
    verify: ssl.SSLContext | bool = True,
) -> httpx.Client:
    """Return a thread-safe client with a connection pool that is safe for any URL.

    It does not follow redirects automatically, and checks each URL that its caller follows.
    Requests raise AddressBlocked and HostUnknown in addition to httpx's own errors. The deadline
    does not cover the resolution of a name, which has the resolver's own timeout.
    """
    for name in ("httpx", "httpcore"):
        # They log whole URLs, which may contain secrets.
        logging.getLogger(name).setLevel(logging.WARNING)
    return httpx.Client(
        transport=_Transport(
            policy, _GuardedBackend(policy, deadline, resolve), connections, verify
        ),
        # A proxy from the environment would resolve names itself, after the check.
        trust_env=False,
        # A cookie of one user's host must not identify the next user.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": "blipline", **(headers or {})},
    )


def check_url(policy: AddressPolicy, url: str, resolve: Resolve = socket.getaddrinfo) -> None:
    """Raise AddressBlocked if a guarded client would block this URL now.

    A host without an address passes: its requests fail, or find an address that is then checked.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise UrlBlocked("the URL is invalid") from None
    _check_url(parsed)
    host = _host(parsed)
    policy.check_name(host)
    try:
        addresses = _resolve_host(host, parsed.port or 443, resolve)
    except (HostUnknown, httpcore.ConnectError):
        return
    for address in addresses:
        policy.check(host, address)


def host_of(url: str) -> str:
    """Return the host of a URL, for per-host limits and logs; empty if it has none."""
    try:
        return httpx.URL(url).host.removesuffix(".")
    except (httpx.InvalidURL, ValueError):
        return ""


def origin_of(url: str) -> str:
    """Return the scheme, host and port of a URL, without its secrets; empty if it has no host."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return ""
    return f"{parsed.scheme}://{parsed.netloc.decode()}" if parsed.host else ""


def retry_after_s(value: str) -> float:
    """Return the delay in seconds that a Retry-After header requests (RFC 9110); 0 if invalid."""
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
    """A transport that checks every URL before its request, redirects included."""

    def __init__(
        self,
        policy: AddressPolicy,
        backend: _GuardedBackend,
        connections: int,
        verify: ssl.SSLContext | bool,
    ) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        super().__init__(verify=verify, limits=limits)
        # httpx has no argument for the network backend of its pool.
        self._pool._network_backend = backend
        self._policy = policy

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _check_url(request.url)
        self._policy.check_name(_host(request.url))
        return super().handle_request(request)


def _check_url(url: httpx.URL) -> None:
    """Raise UrlBlocked for parts that the URL of an image or a webhook does not need."""
    if url.scheme not in ("http", "https"):
        raise UrlBlocked("only http and https URLs are allowed")
    if url.userinfo:
        raise UrlBlocked("a URL with a user name or password is not allowed")
    # URL parsers disagree on any other host.
    host = _host(url)
    if not _HOST.fullmatch(host) and not _is_ipv6(host):
        raise UrlBlocked("the URL's host must consist of ASCII letters, digits, dots and hyphens")
    if url.port is not None and not 0 < url.port < 1 << 16:
        raise UrlBlocked("the URL's port is invalid")


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii")


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


class _GuardedBackend(httpcore.SyncBackend):
    """A network backend that connects only to checked addresses, before the deadline."""

    def __init__(self, policy: AddressPolicy, deadline: RequestDeadline, resolve: Resolve) -> None:
        self._policy = policy
        self._deadline = deadline
        self._resolve = resolve

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _resolve_host(host, port, self._resolve)
        # A name with an internal and a public address is either misconfigured or an attack.
        for address in addresses:
            self._policy.check(host, address)
        # An address that drops packets must not use up the timeout of the others.
        timeout_per_address_s = None if timeout is None else timeout / max(1, len(addresses))
        failure: Exception = httpcore.ConnectError(f"{host}: no address")
        for address in addresses:
            try:
                # Connect to the checked address, so that the name is not resolved again.
                stream = super().connect_tcp(
                    address,
                    port,
                    self._deadline.within(timeout_per_address_s),
                    local_address,
                    socket_options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream, self._deadline)
        raise failure


def _resolve_host(host: str, port: int, resolve: Resolve) -> list[str]:
    """Return the addresses of a host; raises HostUnknown or httpcore.ConnectError."""
    try:
        entries = resolve(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise HostUnknown(f"{host}: not a valid host name") from None
    except OSError as error:
        message = f"{host}: {error.strerror or error}"
        if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
            raise HostUnknown(message) from None
        raise httpcore.ConnectError(message) from None
    return [str(entry[4][0]) for entry in entries]


class _DeadlineStream(httpcore.NetworkStream):
    """A stream with the deadline of the request.

    It also ends a response whose reads are each fast enough but too slow in total.
    """

    def __init__(self, stream: httpcore.NetworkStream, deadline: RequestDeadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.within(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            # Python applies this timeout to the whole handshake.
            stream = self._stream.start_tls(
                ssl_context, server_hostname, self._deadline.within(timeout)
            )
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                message = f"{server_hostname}: {error.__cause__.verify_message}"
                raise HostUnknown(message) from None
            raise
        return _DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
