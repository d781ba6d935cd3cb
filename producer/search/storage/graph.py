"""Graphs of nearest neighbours (HNSW, by usearch): one file for each kind of entry.

A graph is derived from the stored vectors and may lag behind them: a search adds the vectors after
the graph's last one by comparing them all, and drops those that are no longer stored.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ...errors import InvalidInput
from ..entry import Kind
from ..extras import required
from .store import IndexStore, count_vectors, read_meta, vector_blocks

#: Vectors from which a graph is faster than a comparison with all (docs/decisions.md).
GRAPH_VECTORS: Final = 20_000
#: Candidates of a search: recall against time (docs/decisions.md). In a larger graph, the same
#: number finds fewer of the neighbours.
MIN_EXPANSION: Final = 256
MAX_EXPANSION: Final = 4096
#: Vectors for each candidate, between these limits.
VECTORS_PER_CANDIDATE: Final = 1000
#: Candidates of an insertion: recall against the time of building (docs/decisions.md).
EXPANSION_ADD: Final = 64
#: Share of deleted vectors in a graph from which it is built again.
MAX_DELETED: Final = 0.2
#: New vectors between two saves of a graph that is being built.
SAVE_VECTORS: Final = 200_000

#: Receives the number of vectors in the graph and their total.
OnAdded = Callable[[int, int], None]


def graph_path(folder: Path, kind: Kind) -> Path:
    """Return the file of a graph."""
    return folder / f"{kind}.usearch"


def last_vector(connection: sqlite3.Connection, kind: Kind) -> int:
    """Return the number of the last vector in the graph; 0 if there is no graph."""
    return int(read_meta(connection, f"{kind}_graph_last") or 0)


def open_graph(folder: Path, kind: Kind, dimensions: int, *, view: bool = True) -> Any:
    """Open a graph, mapped into memory unless it is to be changed; None if it is unusable."""
    path = graph_path(folder, kind)
    if not path.is_file():
        return None
    index = required("usearch.index").Index
    try:
        graph = index.restore(path, view=view, enable_key_lookups=False)
    except (RuntimeError, ValueError, OSError):
        # Cut short or damaged; it can be built again.
        return None
    if graph is None or graph.ndim != dimensions:
        return None
    graph.expansion_search = search_expansion(len(graph))
    graph.expansion_add = EXPANSION_ADD
    return graph


def search_expansion(vectors: int) -> int:
    """Return the number of candidates of a search in a graph of this size."""
    return min(MAX_EXPANSION, max(MIN_EXPANSION, vectors // VECTORS_PER_CANDIDATE))


class GraphBuilder:
    """A builder of the graphs of an index."""

    def __init__(
        self,
        store: IndexStore,
        folder: Path,
        on_added: OnAdded = lambda added, total: None,
        graph_vectors: int = GRAPH_VECTORS,
    ) -> None:
        self._store = store
        self._folder = folder
        self._on_added = on_added
        self._graph_vectors = graph_vectors

    def refresh(self, kind: Kind, dimensions: int) -> None:
        """Bring the graph of a kind up to date, or remove it if there are few vectors."""
        connection = self._store.connection
        total = count_vectors(connection, kind)
        if total < self._graph_vectors:
            self._set_last(kind, 0)
            graph_path(self._folder, kind).unlink(missing_ok=True)
            return
        last = last_vector(connection, kind)
        graph = open_graph(self._folder, kind, dimensions, view=False) if last else None
        if graph is not None and self._deleted(graph, kind, last) > MAX_DELETED * len(graph):
            graph = None
        if graph is None:
            last = 0
            index = required("usearch.index").Index
            graph = index(
                ndim=dimensions,
                metric="cos",
                dtype="f16",
                expansion_add=EXPANSION_ADD,
                enable_key_lookups=False,
            )
        self._extend(graph, kind, last, total)

    def _extend(self, graph: Any, kind: Kind, last: int, total: int) -> None:
        numpy = required("numpy")
        unsaved = 0
        for rows in vector_blocks(self._store.connection, kind, last):
            numbers = numpy.array([number for number, _ in rows], dtype=numpy.uint64)
            data = numpy.frombuffer(b"".join(vector for _, vector in rows), dtype=numpy.float16)
            # In several threads, usearch leaves vectors that no search reaches (its issue 735).
            graph.add(numbers, data.reshape(len(rows), -1), threads=1)
            last, unsaved = rows[-1][0], unsaved + len(rows)
            self._on_added(len(graph), max(len(graph), total))
            if unsaved >= SAVE_VECTORS:
                self._save(graph, kind, last)
                unsaved = 0
        if unsaved:
            self._save(graph, kind, last)

    def _save(self, graph: Any, kind: Kind, last: int) -> None:
        """Replace the file of a graph atomically, then note its last vector."""
        path = graph_path(self._folder, kind)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            graph.save(part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise InvalidInput(f"{path}: cannot be written: {error}") from None
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._set_last(kind, last)

    def _deleted(self, graph: Any, kind: Kind, last: int) -> int:
        """Count the vectors of a graph that are no longer stored."""
        query = "SELECT count(*) FROM vectors WHERE kind = ? AND id <= ?"
        (stored,) = self._store.connection.execute(query, (kind, last)).fetchone()
        return len(graph) - int(stored)

    def _set_last(self, kind: Kind, last: int) -> None:
        self._store.set_meta(f"{kind}_graph_last", last)
        self._store.commit()


def remove_parts(folder: Path) -> None:
    """Delete incomplete files of runs that were killed; the caller has the write lock."""
    for part in folder.glob("*.usearch.*.part"):
        part.unlink(missing_ok=True)
