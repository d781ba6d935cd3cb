"""Vector indexes that `benchmarks.search` compares: each builds a file and searches it."""

from __future__ import annotations

import os
import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from producer.search.storage.graph import EXPANSION_ADD

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

#: Vectors added at once.
BLOCK: Final = 20_000


class VectorIndex(ABC):
    """An index of unit vectors, which are numbered from 0; `folder` is its own."""

    #: Name in the report.
    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def build(self, vectors: Vectors) -> None:
        """Write the index."""

    @abstractmethod
    def open(self, dimensions: int) -> None:
        """Open the index for searches."""

    @abstractmethod
    def search(self, query: Vectors, count: int) -> Sequence[int]:
        """Return the numbers of the nearest vectors, the nearest first."""

    def settings(self) -> Iterator[str]:
        """Set one search setting after the other; yield the name of each."""
        yield ""

    @property
    def size_bytes(self) -> int:
        """Size of the index on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def cpu_s(self) -> float:
        """Return the processor time of this process, and of a server that holds the index."""
        return time.process_time()

    def resident_bytes(self, field: str) -> int:
        """Return a field of `/proc/self/status`; of a server that holds the index, its memory."""
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class NumpyFile(VectorIndex):
    """A memory-mapped file of fp32 vectors; a search multiplies all of them."""

    name = "numpy, exact, fp32"

    def build(self, vectors: Vectors) -> None:
        """Write the vectors."""
        file = np.lib.format.open_memmap(
            self.folder / "vectors.npy", "w+", np.float32, vectors.shape
        )
        for first in range(0, len(vectors), BLOCK):
            file[first : first + BLOCK] = vectors[first : first + BLOCK]
        file.flush()

    def open(self, dimensions: int) -> None:
        """Map the file."""
        self._vectors = np.load(self.folder / "vectors.npy", mmap_mode="r")

    def search(self, query: Vectors, count: int) -> Sequence[int]:
        """Return the nearest by a product with all vectors."""
        scores = self._vectors @ query
        nearest = np.argpartition(-scores, count)[:count]
        return [int(number) for number in nearest[np.argsort(-scores[nearest])]]


class Usearch(VectorIndex):
    """usearch's HNSW graph; `expansion` is the number of candidates that a search keeps."""

    dtype = "f16"
    #: Expansions to measure; 0: exact.
    expansions: tuple[int, ...] = (64, 256, 1024, 0)
    name = "usearch, f16"

    def build(self, vectors: Vectors) -> None:
        """Add all vectors, with all cores."""
        from usearch.index import Index

        graph = Index(
            ndim=vectors.shape[1],
            metric="cos",
            dtype=self.dtype,
            expansion_add=EXPANSION_ADD,
            enable_key_lookups=False,
        )
        for first in range(0, len(vectors), BLOCK):
            block = np.asarray(vectors[first : first + BLOCK])
            graph.add(np.arange(first, first + len(block)), block, threads=os.cpu_count() or 1)
        graph.save(self.folder / "vectors.usearch")

    def open(self, dimensions: int) -> None:
        """Map the file."""
        from usearch.index import Index

        self._graph: Any = Index(
            ndim=dimensions, metric="cos", dtype=self.dtype, enable_key_lookups=False
        )
        self._graph.view(self.folder / "vectors.usearch")

    def settings(self) -> Iterator[str]:
        """Yield the expansions, then exact search."""
        for expansion in self.expansions:
            self._exact = not expansion
            if expansion:
                self._graph.expansion_search = expansion
            yield f"expansion {expansion}" if expansion else "exact"

    def search(self, query: Vectors, count: int) -> Sequence[int]:
        """Search with one thread."""
        matches = self._graph.search(query, count, exact=self._exact, threads=1)
        return [int(key) for key in matches.keys]


class UsearchInt8(Usearch):
    """The same with vectors of 8-bit integers."""

    dtype = "i8"
    name = "usearch, i8"


class SqliteVec(VectorIndex):
    """sqlite-vec: a virtual table that is scanned; through apsw, because many builds of Python's
    sqlite3 load no extensions."""

    name = "sqlite-vec, exact, fp32"

    def build(self, vectors: Vectors) -> None:
        """Insert all vectors in one transaction."""
        connection = self._connect()
        kind = f"float[{vectors.shape[1]}] distance_metric=cosine"
        connection.execute(f"CREATE VIRTUAL TABLE vectors USING vec0(embedding {kind})")
        connection.execute("BEGIN")
        rows = ((number, np.asarray(vector).tobytes()) for number, vector in enumerate(vectors))
        connection.executemany("INSERT INTO vectors(rowid, embedding) VALUES (?, ?)", rows)
        connection.execute("COMMIT")
        connection.close()

    def open(self, dimensions: int) -> None:
        """Open the database."""
        self._connection = self._connect()

    def search(self, query: Vectors, count: int) -> Sequence[int]:
        """Scan the table."""
        return [
            row[0]
            for row in self._connection.execute(
                "SELECT rowid FROM vectors WHERE embedding MATCH ? AND k = ? ORDER BY distance",
                (query.tobytes(), count),
            )
        ]

    def _connect(self) -> Any:
        import apsw
        import sqlite_vec

        connection = apsw.Connection(str(self.folder / "vectors.db"))
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        return connection


class RedisVectorSet(VectorIndex):
    """A vector set of the Redis server (8.0 or later) that BLIPLINE_REDIS_URL names."""

    name = "Redis vector set, Q8"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import redis

        url = os.environ.get("BLIPLINE_REDIS_URL", "redis://127.0.0.1:6379/0")
        self._redis: Any = redis.Redis.from_url(url)
        self._is_open = False

    def build(self, vectors: Vectors) -> None:
        """Add all vectors; a server without vector sets raises redis.ResponseError."""
        self.open(vectors.shape[1])
        self._redis.delete("benchmark")
        pipe = self._redis.pipeline(transaction=False)
        for number, vector in enumerate(vectors):
            pipe.execute_command(
                "VADD", "benchmark", "FP32", np.asarray(vector).tobytes(), number, "Q8"
            )
            if len(pipe) == 1000:
                pipe.execute()
        pipe.execute()

    def open(self, dimensions: int) -> None:
        """Connect."""
        self._redis.ping()
        self._is_open = True

    def settings(self) -> Iterator[str]:
        """Yield the efforts."""
        for self._effort in Usearch.expansions[:-1]:
            yield f"EF {self._effort}"

    def search(self, query: Vectors, count: int) -> Sequence[int]:
        """Search the set."""
        data = query.tobytes()
        command = ("VSIM", "benchmark", "FP32", data, "COUNT", count, "EF", self._effort)
        return [int(name) for name in self._redis.execute_command(*command)]

    @property
    def size_bytes(self) -> int:
        """Memory of the server's key."""
        return int(self._redis.memory_usage("benchmark", samples=0) or 0)

    def cpu_s(self) -> float:
        """Add all threads of the server to those of this process."""
        server = self._redis.info("cpu")
        return super().cpu_s() + float(server["used_cpu_user"]) + float(server["used_cpu_sys"])

    def resident_bytes(self, field: str) -> int:
        """Return the server's memory once the set is open."""
        return self._is_open and int(self._redis.info("memory")["used_memory_rss"])


#: The indexes by their names on the command line.
INDEXES: Final[dict[str, type[VectorIndex]]] = {
    "numpy": NumpyFile,
    "usearch": Usearch,
    "usearch-i8": UsearchInt8,
    "sqlite-vec": SqliteVec,
    "redis": RedisVectorSet,
}


def warm_up(index: VectorIndex, queries: Vectors, count: int, limit_s: float) -> None:
    """Search until the pages are in memory: for some seconds or some queries."""
    end = time.monotonic() + limit_s
    for query in queries:
        index.search(query, count)
        if time.monotonic() > end:
            return
