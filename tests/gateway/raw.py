"""A connection without a client of HTTP."""

from __future__ import annotations

import socket

import httpx


def talk(url: str, *said: bytes) -> bytes:
    """What a raw connection is answered, until it is closed."""
    where = httpx.URL(url)
    answer = b""
    with socket.create_connection((where.host, where.port or 80), timeout=60) as connection:
        for part in said:
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
