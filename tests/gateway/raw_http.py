"""A raw HTTP connection."""

from __future__ import annotations

import socket

import httpx


def talk(url: str, *parts: bytes) -> bytes:
    """Send parts over a connection; return the response until it is closed."""
    address = httpx.URL(url)
    answer = b""
    with socket.create_connection((address.host, address.port or 80), timeout=60) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
    return answer
