"""Local images on their way to the workers: read once, stored in Redis once under their hash."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Union

import redis

from .. import contract
from ..contract import BLOB_SCHEME, MAX_BLOB_BYTES, ErrorCode
from ..errors import InvalidInput
from .ledger import Ledger

if TYPE_CHECKING:
    from PIL.Image import Image

#: What callers may pass as an image: a path or reference, raw bytes of a file, or a PIL image.
ImageSource = Union[str, "os.PathLike[str]", bytes, "Image"]

_PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")

#: What names its scheme is a reference, for the worker to resolve or to refuse; all else is a path.
_REFERENCE = re.compile(r"blob:|file:|[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_reference(image: str) -> bool:
    """Whether `read` hands this on as it is, and touches no file of this machine."""
    return _REFERENCE.match(image) is not None


def read(image: ImageSource) -> str | bytes:
    """A reference as it is, or the bytes of a local image.

    Raises InvalidInput when there is no such file, it is empty or too large, or the value is no
    image at all. Whether the bytes can be decoded is for the worker to find out.
    """
    if isinstance(image, str) and is_reference(image):
        return image
    data = _bytes_of(image)
    if not data:
        raise InvalidInput(f"{_name(image)} is empty (0 bytes)", ErrorCode.IMAGE_INVALID)
    if len(data) > MAX_BLOB_BYTES:
        raise InvalidInput(
            f"{_name(image)} has {len(data):,} bytes; an upload may have {MAX_BLOB_BYTES:,}",
            ErrorCode.IMAGE_TOO_LARGE,
        )
    return data


def upload(client: redis.Redis, ledger: Ledger, images: Sequence[bytes]) -> list[str]:
    """Store images under their SHA-256 and return their references, in order.

    Bytes that Redis already holds are not sent again. The job that names an image must be entered
    within UPLOAD_TTL_S; from then on it is kept for as long as the job is open.
    """
    hashes = [hashlib.sha256(image).hexdigest() for image in images]
    by_hash = dict(zip(hashes, images, strict=True))
    pipe = client.pipeline(transaction=False)
    for sha, held in zip(by_hash, ledger.touch(list(by_hash)), strict=True):
        if not held:
            # Somebody else's job may have come to need it meanwhile: what is there stays.
            key = ledger.keys.blob(sha)
            pipe.set(key, by_hash[sha], ex=contract.UPLOAD_TTL_S, nx=True)
    pipe.execute()
    return [BLOB_SCHEME + sha for sha in hashes]


def _bytes_of(image: ImageSource) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return _read_file(Path(image))
    if hasattr(image, "save") and hasattr(image, "mode"):
        return _as_png(image)
    raise InvalidInput(
        f"an image is a path, a URL, bytes or a PIL image, not {type(image).__name__}",
        ErrorCode.IMAGE_INVALID,
    )


def _as_png(image: Image) -> bytes:
    """Lossless: what the model sees is what the caller holds."""
    buffer = io.BytesIO()
    try:
        # PNG has no place for CMYK, Lab and the like.
        kept = image if image.mode in _PNG_MODES else image.convert("RGB")
        kept.save(buffer, format="PNG")
    except (OSError, ValueError) as error:
        # Pillow reads a file only when its pixels are asked for.
        raise InvalidInput(f"the image cannot be read: {error}", ErrorCode.IMAGE_INVALID) from None
    return buffer.getvalue()


def _read_file(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            # A pipe or a device could block for ever.
            raise InvalidInput(f"{path}: not a regular file", ErrorCode.IMAGE_UNREACHABLE)
        with path.open("rb") as file:
            # One byte more than allowed tells 'too large' without reading an endless file.
            return file.read(MAX_BLOB_BYTES + 1)
    except InvalidInput:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"{path}: {reason}", ErrorCode.IMAGE_UNREACHABLE) from None


def _name(image: ImageSource) -> str:
    return str(image) if isinstance(image, str | os.PathLike) else "the image"
