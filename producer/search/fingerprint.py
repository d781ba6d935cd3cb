"""The identity of the model whose vectors an index has: its revisions, and vectors of two probes.

A revision also covers the device, the precision and the software of a worker. So an unknown
revision, or the missing one of an older worker, is accepted if the probes have the same vectors.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..errors import InvalidInput, JobExpired, WaitTimeout
from ..job import Job, Result
from .storage.store import IndexStore, read_meta

if TYPE_CHECKING:
    import sqlite3

    from ..client import Client

PROBE_TEXT: Final = "a photo of a red car beside a small lake"
#: Width and height of the probe image.
_PROBE_PX: Final = 64
#: Cosine from which two vectors of a probe are those of one model: half precision changes less.
SAME_COSINE: Final = 0.999
#: Probes for a worker whose revision answered: any of several workers answers each.
_REVISION_PROBES: Final = 10
#: Seconds to wait for a worker; a large model may still be loading.
WAIT_S: Final = 120.0


class Fingerprint:
    """The identity of a model: its revisions, and the vectors of the probes."""

    def __init__(self, revisions: set[str], probes: Sequence[Sequence[float]]) -> None:
        self.revisions = revisions
        self.probes = probes

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Fingerprint | None:
        """Read the fingerprint of an index; None if it has no vectors yet."""
        stored = read_meta(connection, "probes")
        if stored is None:
            return None
        rows = connection.execute("SELECT revision FROM revisions")
        return cls({row[0] for row in rows}, json.loads(stored))

    @classmethod
    def of_worker(cls, client: Client, timeout_s: float = WAIT_S) -> Fingerprint:
        """Compute the fingerprint of the worker that answers first."""
        jobs = [client.embed(probe_image()), client.embed(text=PROBE_TEXT)]
        results = [result_of(job, timeout_s) for job in jobs]
        revisions = {result.revision for result in results if result.revision}
        return cls(revisions, [result.embedding or [] for result in results])

    @property
    def dimensions(self) -> int:
        """The number of dimensions of the vectors."""
        return len(self.probes[0])

    def store(self, store: IndexStore) -> None:
        """Write it into an index."""
        store.set_meta("probes", json.dumps(self.probes))
        for revision in self.revisions:
            store.add_revision(revision)
        store.commit()

    def check(self, client: Client, timeout_s: float = WAIT_S) -> set[str]:
        """Compare the probes with a worker's, and return its revisions, now known.

        Raises InvalidInput if the worker's model is another one.
        """
        current = Fingerprint.of_worker(client, timeout_s)
        for old, new in zip(self.probes, current.probes, strict=True):
            if len(old) != len(new) or _dot(old, new) < SAME_COSINE:
                raise InvalidInput(
                    f"the vectors of this index are of another model ({self._name()}) than the "
                    f"worker's ({current._name()}): run a worker with the index's model, or make "
                    "the index again with `blipline index --rebuild`"
                )
        self.revisions |= current.revisions
        return current.revisions

    def confirm(self, client: Client, result: Result, timeout_s: float = WAIT_S) -> set[str]:
        """Return revisions that are known now, among them the result's.

        Raises InvalidInput if its vector is of another model.
        """
        new: set[str] = set()
        if len(result.embedding or ()) == self.dimensions:
            if result.revision in self.revisions:
                return new
            for _ in range(_REVISION_PROBES):
                new |= self.check(client, timeout_s)
                if not result.revision or result.revision in self.revisions:
                    return new
        raise InvalidInput(
            f"a worker with another model ({result.revision or 'unknown revision'}) answers on "
            f"this Redis: run workers with the index's model only ({self._name()}), or make the "
            "index again with `blipline index --rebuild`"
        )

    def _name(self) -> str:
        revisions = "/".join(sorted(self.revisions)) or "unknown revision"
        return f"{revisions}, {self.dimensions} dimensions"


def result_of(job: Job[list[float]], timeout_s: float) -> Result:
    """Wait for the result of an embedding; raises the errors of `Job.result`, or WaitTimeout.

    A job without a result before the timeout is cancelled.
    """
    try:
        job.result(timeout_s)
    except WaitTimeout:
        job.cancel()
        raise
    _, result = job.look()
    if result is None:
        raise JobExpired(f"job {job.id} has ended, and its result has expired")
    return result


def probe_image() -> bytes:
    """Return a PNG of smooth colors, the same bytes in each version."""
    rows = b"".join(
        b"\0" + b"".join(bytes((4 * x, 4 * y, 255 - 2 * (x + y))) for x in range(_PROBE_PX))
        for y in range(_PROBE_PX)
    )
    header = struct.pack(">IIBBBBB", _PROBE_PX, _PROBE_PX, 8, 2, 0, 0, 0)
    # Stored without compression: compressors of different versions write different bytes.
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def _dot(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))
