"""SHA-256 of files; a cache file remembers those of large files while they do not change."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

#: Bytes up to which a file is read at every start: some 10 ms.
SMALL_BYTES: Final = 16 * 2**20
#: Seconds after a change during which the cache does not remember a file: a second change within
#: the resolution of the file system's clock would not be noticed.
SETTLE_S: Final = 2.0


class Signature(NamedTuple):
    """The properties of a file that change with its content.

    The time of change cannot be set by programs, unlike the time of modification.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def sign(path: Path) -> Signature:
    """Return a file's signature; of a symbolic link, that of its target."""
    status = path.stat()
    return Signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class FileHashes:
    """Hashes of files by their real paths. Thread-safe but for `save`.

    `cache` is a JSON file for only this user. Without it, or if it is damaged, every file is read.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._known = read_cache(cache)
        self._new: dict[str, tuple[Signature, str]] = {}

    def hash(self, path: Path) -> str:
        """Return the SHA-256 of a file as 64 hex digits. Raises OSError."""
        real, signature = str(path.resolve()), sign(path)
        known = self._known.get(real)
        if known is not None and known[0] == signature and signature.size > SMALL_BYTES:
            return known[1]
        started = time.time()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        settled = max(signature.mtime_ns, signature.ctime_ns) / 1e9 + SETTLE_S < started
        if signature.size > SMALL_BYTES and settled and sign(path) == signature:
            self._new[real] = (signature, digest)
        return digest

    def save(self) -> None:
        """Add new hashes to the cache file; an error is only logged."""
        if not self._new:
            return
        # Another engine may have saved its own since the start.
        entries = {**read_cache(self.cache), **self._new}
        existing = {path: entry for path, entry in entries.items() if os.path.exists(path)}
        try:
            self.cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=self.cache.parent, prefix=self.cache.name, delete=False
            ) as file:
                json.dump(existing, file)
            os.replace(file.name, self.cache)
        except OSError as error:
            log.info("hashes of weights are not remembered: %s", error)


def read_cache(path: Path) -> dict[str, tuple[Signature, str]]:
    """Read a cache file; empty if it is missing, damaged or writable by others."""
    try:
        with path.open() as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
                log.warning("%s is ignored: other users can write to it", path)
                return {}
            entries = json.load(file)
        return {
            str(name): (Signature(*map(int, signature)), str(digest))
            for name, (signature, digest) in entries.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        log.info("%s is ignored: %s", path, error)
        return {}
