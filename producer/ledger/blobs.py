"""Blobs: local images, each stored in Redis once, under its SHA-256."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Union

import redis

from .. import contract
from ..contract import BLOB_SCHEME, MAX_BLOB_BYTES, ErrorCode
from ..errors import InvalidInput
from . import data_url
from .ledger import Ledger
from .quota import quota_exceeded
from .records import UNLIMITED, EnqueueStatus, QueueLimits

if TYPE_CHECKING:
    from PIL.Image import Image

#: An image of the caller: a path or reference, a `data:` URL, the bytes of a file, or a PIL image.
ImageSource = Union[str, "os.PathLike[str]", bytes, "Image"]

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
#: Modes that become `I;16`: other byte orders, as from an array of NumPy.
_OTHER_16_BIT_MODES = ("I;16B", "I;16L", "I;16N")
#: Modes whose samples fit into no PNG: 32-bit integers and floating point.
_TIFF_MODES = ("I", "F")

#: Maximum characters of an image's name in a message: it may be a whole image in base64.
_LABEL_CHARS: Final = 200

#: A string with a scheme is a reference, which the worker resolves or rejects; others are paths.
_REFERENCE = re.compile(r"blob:|file:|[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_reference(image: str) -> bool:
    """Return whether this is a reference, for which `read` does not open a local file."""
    return _REFERENCE.match(image) is not None


def label(image: ImageSource) -> str:
    """Return a short name of an image for messages."""
    if not isinstance(image, str | os.PathLike):
        return "the image"
    name = str(image)
    if len(name) <= _LABEL_CHARS:
        return name
    return f"{name[:_LABEL_CHARS]}… ({len(name):,} characters)"


def read(image: ImageSource) -> str | bytes:
    """Return a reference unchanged, or the bytes of a local image.

    Raises InvalidInput if the file does not exist, is empty or too large, or if the value is of
    another type. The worker checks whether the bytes can be decoded.
    """
    if isinstance(image, str) and is_reference(image):
        return image
    data = _bytes_of(image)
    if not data:
        raise InvalidInput(f"{label(image)} is empty (0 bytes)", ErrorCode.IMAGE_INVALID)
    if len(data) > MAX_BLOB_BYTES:
        raise _too_large(label(image), len(data))
    return data


def reference_of(image: bytes) -> str:
    """Return the reference under which `upload` stores an image."""
    return BLOB_SCHEME + hashlib.sha256(image).hexdigest()


def upload(
    client: redis.Redis,
    ledger: Ledger,
    images: Sequence[bytes],
    account: str = "",
    limits: QueueLimits = UNLIMITED,
) -> list[str]:
    """Store images under their SHA-256; return their references, in order.

    Images that Redis already stores are not sent again. The job that names an image must be
    enqueued within UPLOAD_TTL_S; then the image is kept while the job is open. The images count for
    the account, whose jobs may name them; raises StorageQuotaExceeded.
    """
    hashes = [hashlib.sha256(image).hexdigest() for image in images]
    by_hash = dict(zip(hashes, images, strict=True))
    if account:
        sizes = {sha: len(image) for sha, image in by_hash.items()}
        stored = ledger.announce(account, sizes, limits)
        if isinstance(stored, EnqueueStatus):
            raise quota_exceeded(stored, account, limits)
    else:
        stored = ledger.touch(list(by_hash))
    pipe = client.pipeline(transaction=False)
    for sha, exists in zip(by_hash, stored, strict=True):
        if not exists:
            # nx: another client may have uploaded it meanwhile, and its job may retain it.
            key = ledger.keys.blob(sha)
            pipe.set(key, by_hash[sha], ex=contract.UPLOAD_TTL_S, nx=True)
    pipe.execute()
    return [BLOB_SCHEME + sha for sha in hashes]


def _bytes_of(image: ImageSource) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str) and data_url.is_data_url(image):
        return data_url.decode(image, MAX_BLOB_BYTES)
    if isinstance(image, str | os.PathLike):
        return _read_file(image)
    if hasattr(image, "save") and hasattr(image, "mode"):
        return _encode(image)
    raise InvalidInput(
        f"an image is a path, a URL, bytes or a PIL image, not {type(image).__name__}",
        ErrorCode.IMAGE_INVALID,
    )


def _too_large(name: str, size_bytes: int) -> InvalidInput:
    return InvalidInput(
        f"{name} has {size_bytes:,} bytes; the upload limit is {MAX_BLOB_BYTES:,}",
        ErrorCode.IMAGE_TOO_LARGE,
    )


def _encode(image: Image) -> bytes:
    """Encode a PIL image without loss."""
    buffer = io.BytesIO()
    try:
        if image.mode in _OTHER_16_BIT_MODES:
            image = image.convert("I").convert("I;16")
        if image.mode in _TIFF_MODES:
            image.save(buffer, format="TIFF", compression="tiff_adobe_deflate")
        else:
            # PNG cannot store CMYK, Lab and similar modes.
            encodable = image if image.mode in _PNG_MODES else image.convert("RGB")
            encodable.save(buffer, format="PNG")
    except (OSError, ValueError) as error:
        # Pillow opens files lazily, and reads the pixels here.
        raise InvalidInput(f"the image cannot be read: {error}", ErrorCode.IMAGE_INVALID) from None
    return buffer.getvalue()


def _read_file(path: str | os.PathLike[str]) -> bytes:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            # Reading a pipe or a device can block forever.
            raise InvalidInput(f"{label(path)}: not a regular file", ErrorCode.IMAGE_UNREACHABLE)
        if status.st_size > MAX_BLOB_BYTES:
            raise _too_large(label(path), status.st_size)
        with open(path, "rb", buffering=0) as file:
            data = file.read(status.st_size + 1)
            if len(data) > status.st_size:
                # A file that grows meanwhile is read as far as its excess can be detected.
                data += file.read(MAX_BLOB_BYTES + 1 - len(data))
            return data
    except InvalidInput:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"{label(path)}: {reason}", ErrorCode.IMAGE_UNREACHABLE) from None
