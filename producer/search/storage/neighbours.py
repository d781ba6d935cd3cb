"""The nearest stored vectors of a query, among all or among the entries that pass a filter."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ..entry import Kind
from ..extras import required
from .graph import graph_path, last_vector, open_graph
from .store import blocks_of, vector_blocks

#: Vectors up to which those that pass a filter are all compared.
SCAN_VECTORS: Final = 50_000
#: Factor by which a search in a graph widens if too few of its results pass the filter.
_WIDEN: Final = 4
#: Candidates beyond the requested number: of close scores, the graph's order may differ.
_SPARE: Final = 16

#: The number of a vector, and its cosine with the query.
Scored = tuple[int, float]


class GraphCache:
    """The open graphs of a folder, opened again when their files are replaced; thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._graphs: dict[Kind, tuple[tuple[int, int, int], Any]] = {}

    def graph(self, kind: Kind, dimensions: int) -> Any:
        """Return the graph of a kind; None if there is none."""
        try:
            status = graph_path(self._folder, kind).stat()
        except OSError:
            return None
        signature = (status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:
            opened = self._graphs.get(kind)
            if opened is None or opened[0] != signature:
                opened = (signature, open_graph(self._folder, kind, dimensions))
                self._graphs[kind] = opened
            return opened[1]


class PathFilter:
    """Patterns of names, of which an entry must match any; ``*`` also matches ``/``."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [pattern.encode("utf-8", "surrogateescape") for pattern in patterns]

    def __bool__(self) -> bool:
        return bool(self._patterns)

    @property
    def condition(self) -> str:
        """The condition on a row of `entries`, with the alias `e`."""
        test = "(e.name GLOB CAST(? AS TEXT) OR e.key GLOB CAST(? AS TEXT))"
        return " OR ".join([test] * len(self._patterns)) or "1"

    @property
    def parameters(self) -> list[bytes]:
        """The parameters of the condition."""
        return [pattern for pattern in self._patterns for _ in range(2)]


class NeighbourSearch:
    """A search for the nearest vectors of one kind."""

    def __init__(
        self, connection: sqlite3.Connection, kind: Kind, paths: PathFilter, graphs: GraphCache
    ) -> None:
        self._db = connection
        self._kind = kind
        self._paths = paths
        self._graphs = graphs

    def nearest(self, query: Sequence[float], count: int, *, exact: bool = False) -> list[Scored]:
        """Return the nearest vectors with an entry that passes the filter, the nearest first.

        `exact` compares all vectors instead of following the graph.
        """
        vector = required("numpy").asarray(query, dtype="float32")
        last = last_vector(self._db, self._kind)
        graph = self._graphs.graph(self._kind, len(query)) if last else None
        if graph is None:
            return self._passing(self._scan(vector, 0), count)
        if self._paths:
            matching = self._matching(SCAN_VECTORS + 1)
            if len(matching) <= SCAN_VECTORS:
                return _ranked(self._scores(vector, matching))[:count]
        tail, fetch = self._scan(vector, last), count + _SPARE
        while True:
            matches = graph.search(vector, fetch, exact=exact, threads=1)
            hits = dict(tail) | dict(self._scores(vector, map(int, matches.keys)))
            passing = self._passing(_ranked(hits.items()), count)
            if len(passing) == count or fetch >= len(graph):
                return passing
            fetch *= _WIDEN

    def _scan(self, vector: Any, after: int) -> list[Scored]:
        """Return all vectors after a number, the nearest first."""
        numpy = required("numpy")
        numbers: list[int] = []
        scores = [numpy.zeros(0, dtype=numpy.float32)]
        for rows in vector_blocks(self._db, self._kind, after):
            numbers += [number for number, _ in rows]
            scores.append(_products(vector, rows))
        joined = numpy.concatenate(scores)
        order = numpy.argsort(-joined, kind="stable")
        return [(numbers[at], float(joined[at])) for at in order.tolist()]

    def _scores(self, vector: Any, numbers: Iterable[int]) -> Iterator[Scored]:
        """Yield the exact scores of those vectors that are stored."""
        for block in blocks_of(numbers):
            marks = ",".join("?" * len(block))
            query = f"SELECT id, vector FROM vectors WHERE id IN ({marks})"
            if rows := self._db.execute(query, block).fetchall():
                yield from zip(
                    (row[0] for row in rows), _products(vector, rows).tolist(), strict=True
                )

    def _matching(self, limit: int) -> list[int]:
        """Return the numbers of the vectors that pass the filter, at most `limit`."""
        rows = self._db.execute(
            "SELECT DISTINCT v.id FROM entries e JOIN vectors v ON v.content = e.content "
            f"WHERE v.kind = ? AND ({self._paths.condition}) LIMIT ?",
            (self._kind, *self._paths.parameters, limit),
        )
        return [row[0] for row in rows]

    def _passing(self, ranked: Sequence[Scored], count: int) -> list[Scored]:
        """Return the first vectors that pass the filter."""
        passing: list[Scored] = []
        for first in range(0, len(ranked), 200):
            block = ranked[first : first + 200]
            marks = ",".join("?" * len(block))
            rows = self._db.execute(
                "SELECT DISTINCT v.id FROM vectors v JOIN entries e ON e.content = v.content "
                f"WHERE v.id IN ({marks}) AND ({self._paths.condition})",
                (*(number for number, _ in block), *self._paths.parameters),
            )
            existing = {row[0] for row in rows}
            passing += [scored for scored in block if scored[0] in existing]
            if len(passing) >= count:
                break
        return passing[:count]


def _products(vector: Any, rows: Sequence[tuple[int, bytes]]) -> Any:
    """Return the product of a vector with each stored one."""
    numpy = required("numpy")
    data = numpy.frombuffer(b"".join(stored for _, stored in rows), dtype=numpy.float16)
    return data.reshape(len(rows), -1).astype(numpy.float32) @ vector


def _ranked(scored: Iterable[Scored]) -> list[Scored]:
    """Return scores from the highest to the lowest; of equal ones, the oldest vector first."""
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))
