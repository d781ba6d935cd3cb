"""Connections to image hosts: to public addresses only, and never for longer than is allowed."""

from __future__ import annotations

import ipaddress
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Final

import httpcore

from producer.contract import ErrorCode
from worker.refused import Refused

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
#: What a resolver says of names that do not exist; all else that it says may pass.
_NO_SUCH_NAME: Final = (socket.EAI_NONAME, socket.EAI_NODATA)


class TimeLimit(threading.local):
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


class Network(httpcore.SyncBackend):
    """Connects to the very addresses that were checked, and keeps to the thread's time limit.

    Raises Refused for what will not change: an address that is not public (unless private hosts
    are allowed), a name that does not exist, a certificate that is not good. One thing knows no
    time limit but the resolver's own: looking up a name.
    """

    def __init__(self, limit: TimeLimit, private_hosts: bool) -> None:
        self._limit = limit
        self._private_hosts = private_hosts

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _addresses(host, port)
        for address in addresses:
            if not self._private_hosts and not is_public(address):
                raise Refused(
                    ErrorCode.IMAGE_BLOCKED,
                    f"{host} is {address}, which is no public address; "
                    "BLIPLINE_FETCH_PRIVATE_HOSTS=true allows it",
                )
        # One address that swallows packets must not take the time of the others.
        share_s = None if timeout is None else timeout / len(addresses)
        trouble: Exception = httpcore.ConnectError(f"{host}: no address")
        for address in addresses:
            try:
                stream = super().connect_tcp(
                    address, port, self._limit.within(share_s), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
            else:
                return _LimitedStream(stream, self._limit)
        raise trouble


class _LimitedStream(httpcore.NetworkStream):
    """A host that drips a byte a second passes every single read, but not their sum."""

    def __init__(self, stream: httpcore.NetworkStream, limit: TimeLimit) -> None:
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
                raise Refused(ErrorCode.IMAGE_UNREACHABLE, about) from None
            raise
        return _LimitedStream(stream, self._limit)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def is_public(address: str) -> bool:
    """Whether this IP address belongs to the public Internet, and hides no other in itself."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # A NAT64 or 6to4 address leads to the IPv4 address inside it, wherever that is.
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        about = f"{host}: {error.strerror or error}"
        if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
            raise Refused(ErrorCode.IMAGE_UNREACHABLE, about) from None
        raise httpcore.ConnectError(about) from None
    return [str(entry[4][0]) for entry in found]
