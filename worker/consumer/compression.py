"""Decompression of Celery's messages within a limit: a few bytes can expand to any number."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final

from kombu import compression

from worker.consumer.envelope import MessageMalformed

#: Maximum size of a decompressed body.
MAX_BODY_BYTES: Final = 64 << 20
#: kombu's content types of the formats of Python's standard library; "application/x-gzip" is zlib.
_FORMATS: Final[dict[str, Callable[[], Any]]] = {
    "application/x-gzip": zlib.decompressobj,
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": lzma.LZMADecompressor,
}


def install() -> None:
    """Replace the decoders of kombu; messages in formats without a limit are malformed."""
    for kind in compression.encoders():
        encoder, _ = compression.get_encoder(kind)
        compression.register(encoder, _decoder(kind), kind)


def _decoder(kind: str) -> Callable[[bytes], bytes]:
    decompressor = _FORMATS.get(kind)

    def decode(body: bytes) -> bytes:
        if decompressor is None:
            raise MessageMalformed(f"the compression {kind} is not accepted")
        stream = decompressor()
        plain: bytes = stream.decompress(body, MAX_BODY_BYTES)
        if not stream.eof:
            raise MessageMalformed(
                f"the compressed body is cut short, or longer than {MAX_BODY_BYTES >> 20} MiB"
            )
        return plain

    return decode
