"""From image references to bytes: blobs from Redis, URLs from their hosts, files under one root."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import httpcore
import httpx
import redis

from producer import contract
from producer.contract import ErrorCode
from worker.refused import Refused

#: URLs fetched at once by one consumer.
FETCH_THREADS: Final = 32
MAX_REDIRECTS: Final = 5
#: Seconds between two tries at a host that is in passing trouble.
RETRY_PAUSES_S: Final = (0.2, 0.8)

Fetched = bytes | Refused


class Fetcher:
    """Resolves references; thread-safe. Raises nothing: what fails comes back as an Refused."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        image_root: Path | None,
        max_bytes: int,
        timeout_s: float,
        private_hosts: bool,
    ) -> None:
        self._redis = client
        self._root = None if image_root is None else image_root.resolve()
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="fetch")
        self._http = _http_client(timeout_s, private_hosts)

    def close(self) -> None:
        """Drop connections and what is still being fetched."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def fetch(self, references: Sequence[str]) -> Iterator[Fetched]:
        """The bytes behind each reference, in order: blobs in one round trip, URLs side by side."""
        blobs = self._blobs({one for one in references if contract.is_blob(one)})
        urls = {
            one: self._pool.submit(self._guarded, self._download, one)
            for one in dict.fromkeys(references)
            if one.startswith(("http://", "https://"))
        }
        for reference in references:
            if reference in blobs:
                yield blobs[reference]
            elif reference in urls:
                yield self._awaited(reference, urls[reference])
            else:
                yield self._guarded(self._read_file, reference)

    def _blobs(self, references: Iterable[str]) -> dict[str, Fetched]:
        wanted = list(references)
        if not wanted:
            return {}
        held: list[Any] = self._redis.mget([contract.blob_key(one) for one in wanted])
        return {
            one: _lost_blob(one) if data is None else data
            for one, data in zip(wanted, held, strict=True)
        }

    def _awaited(self, url: str, future: Future[Fetched]) -> Fetched:
        """Its bytes, or an error in time: a host may drip its very headers."""
        try:
            return future.result(2 * self._timeout_s)
        except TimeoutError:
            about = f"{url}: not complete after {2 * self._timeout_s:g} s"
            return Refused(ErrorCode.IMAGE_UNREACHABLE, about)

    def _guarded(self, read: Callable[[str], bytes], reference: str) -> Fetched:
        try:
            return read(reference)
        except Refused as error:
            return error
        except Exception as error:
            return Refused(
                ErrorCode.IMAGE_UNREACHABLE, f"{reference}: {type(error).__name__}: {error}"
            )

    def _read_file(self, reference: str) -> bytes:
        parts = urlsplit(reference)
        if parts.scheme != "file":
            raise Refused(
                ErrorCode.IMAGE_BLOCKED,
                f"{reference}: an image is https://…, blob:<sha256> or file:<path>",
            )
        if self._root is None:
            raise Refused(
                ErrorCode.IMAGE_BLOCKED,
                f"{reference}: this worker reads no files; BLIPLINE_IMAGE_ROOT allows a directory",
            )
        path = (self._root / unquote(parts.path)).resolve()
        if not path.is_relative_to(self._root):
            raise Refused(ErrorCode.IMAGE_BLOCKED, f"{reference}: outside the image root")
        if not path.is_file():
            raise Refused(ErrorCode.IMAGE_UNREACHABLE, f"{reference}: no such file")
        with path.open("rb") as file:
            return self._bounded(reference, iter(lambda: file.read(1 << 16), b""))

    def _download(self, url: str) -> bytes:
        """Fetch one URL; trouble that may pass is tried again within the time allowed."""
        deadline = time.monotonic() + self._timeout_s
        for pause_s in (*RETRY_PAUSES_S, None):
            try:
                return self._download_once(url, deadline)
            except (_Passing, httpx.TransportError) as error:
                if isinstance(error, httpx.TransportError):
                    error = _Passing(f"{url}: {error or type(error).__name__}")
                if pause_s is None or time.monotonic() + pause_s > deadline:
                    raise Refused(ErrorCode.IMAGE_UNREACHABLE, str(error)) from None
                time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def _download_once(self, url: str, deadline: float) -> bytes:
        try:
            with self._http.stream("GET", url) as response:
                if response.status_code >= 500 or response.status_code == 429:
                    raise _Passing(f"{url}: the host answers {response.status_code}")
                if response.status_code != 200:
                    raise Refused(
                        ErrorCode.IMAGE_UNREACHABLE,
                        f"{url}: the host answers {response.status_code}",
                    )
                return self._bounded(url, response.iter_bytes(), deadline)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
            raise Refused(ErrorCode.IMAGE_UNREACHABLE, f"{url}: {error}") from None

    def _bounded(
        self, reference: str, pieces: Iterator[bytes], deadline: float | None = None
    ) -> bytes:
        data = bytearray()
        for piece in pieces:
            data += piece
            if len(data) > self._max_bytes:
                raise Refused(
                    ErrorCode.IMAGE_TOO_LARGE,
                    f"{reference}: more than {self._max_bytes:,} bytes",
                )
            if deadline is not None and time.monotonic() > deadline:
                # A host that drips a byte a second would pass every single read.
                raise Refused(
                    ErrorCode.IMAGE_UNREACHABLE,
                    f"{reference}: not complete after {self._timeout_s:g} s",
                )
        return bytes(data)


class _Passing(Exception):
    """The host is in trouble that may pass."""


class _CheckedBackend(httpcore.SyncBackend):
    """Connects only to public addresses, and to the very address that was checked."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host}: {error.strerror or error}") from None
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            if not is_public(address):
                raise Refused(
                    ErrorCode.IMAGE_BLOCKED,
                    f"{host} is {address}, which is no public address; "
                    "BLIPLINE_FETCH_PRIVATE_HOSTS=true allows it",
                )
        return super().connect_tcp(addresses[0], port, timeout, local_address, socket_options)


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


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _http_client(timeout_s: float, private_hosts: bool) -> httpx.Client:
    transport = httpx.HTTPTransport(
        limits=httpx.Limits(max_connections=FETCH_THREADS, max_keepalive_connections=FETCH_THREADS)
    )
    if not private_hosts:
        # httpx offers no argument for its pool's network backend.
        transport._pool._network_backend = _CheckedBackend()
    return httpx.Client(
        transport=transport,
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        # A proxy from the environment would look names up itself, behind the check.
        trust_env=False,
        headers={"User-Agent": "blipline", "Accept": "image/*"},
    )


def _lost_blob(reference: str) -> Refused:
    return Refused(
        ErrorCode.IMAGE_UNREACHABLE,
        f"{reference}: not in Redis; uploads are kept for a time only: submit the image again",
    )
