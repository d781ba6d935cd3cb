"""Graphs: neighbours agree with exact search, also behind, damaged and filtered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from usearch.index import Index

from producer import InvalidInput
from producer.search.entry import Entry, Kind
from producer.search.storage import database, graph
from producer.search.storage.graph import GraphBuilder, graph_path, last_vector, remove_parts
from producer.search.storage.neighbours import GraphCache, NeighbourSearch, PathFilter
from producer.search.storage.store import IndexStore

VECTORS, DIMENSIONS = 600, 16

Matrix = NDArray[np.float32]


@pytest.fixture
def matrix() -> Matrix:
    """Unit vectors; the n-th belongs to the n-th image."""
    vectors = np.random.default_rng(3).standard_normal((VECTORS, DIMENSIONS)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    # As they are stored.
    stored: Matrix = unit.astype(np.float16).astype(np.float32)
    return stored


@pytest.fixture
def store(tmp_path: Path, matrix: Matrix) -> Iterator[IndexStore]:
    """An index of these vectors, without a graph."""
    with IndexStore(tmp_path) as store:
        add(store, matrix, 0)
        yield store


def add(store: IndexStore, matrix: Matrix, first: int) -> None:
    for number, vector in enumerate(matrix, start=first):
        name = f"{'even' if number % 2 == 0 else 'odd'}/{number}.png"
        store.put(Entry(f"/{name}", name, Kind.IMAGE, f"/{name}"), f"c{number}", "/")
        store.add_vector(f"c{number}", Kind.IMAGE, vector.astype(np.float16).tobytes())
    store.commit()


def build(store: IndexStore, folder: Path) -> None:
    GraphBuilder(store, folder, graph_vectors=100).refresh(Kind.IMAGE, DIMENSIONS)


def nearest(folder: Path, query: Matrix, count: int, *paths: str, **options: Any) -> list[int]:
    with closing(database.open_for_reading(folder)) as connection:
        search = NeighbourSearch(connection, Kind.IMAGE, PathFilter(paths), GraphCache(folder))
        # Vectors are numbered from 1.
        return [number - 1 for number, _ in search.nearest(list(query), count, **options)]


def expected(matrix: Matrix, query: Matrix, count: int) -> list[int]:
    return [int(number) for number in np.argsort(-(matrix @ query))[:count]]


def test_few_vectors_have_no_graph(store: IndexStore, tmp_path: Path, matrix: Matrix) -> None:
    GraphBuilder(store, tmp_path, graph_vectors=VECTORS + 1).refresh(Kind.IMAGE, DIMENSIONS)
    assert not graph_path(tmp_path, Kind.IMAGE).exists()
    assert nearest(tmp_path, matrix[5], 10) == expected(matrix, matrix[5], 10)


def test_a_graph_finds_the_nearest(store: IndexStore, tmp_path: Path, matrix: Matrix) -> None:
    build(store, tmp_path)
    right = 0
    for query in matrix[:20]:
        exact = expected(matrix, query, 10)
        assert nearest(tmp_path, query, 10, exact=True) == exact
        right += len({*exact} & {*nearest(tmp_path, query, 10)})
    assert right >= 190
    assert len(nearest(tmp_path, matrix[0], VECTORS)) == VECTORS


def test_every_vector_of_a_graph_finds_itself(tmp_path: Path) -> None:
    # So many that a build in several threads always leaves some out.
    many = np.random.default_rng(5).standard_normal((5000, DIMENSIONS)).astype(np.float32)
    with IndexStore(tmp_path) as store:
        add(store, many, 0)
        build(store, tmp_path)
    opened = graph.open_graph(tmp_path, Kind.IMAGE, DIMENSIONS)
    assert np.array_equal(opened.search(many, 1).keys[:, 0], np.arange(1, 5001))


def test_vectors_after_the_graph_and_removed_ones_are_respected(
    store: IndexStore, tmp_path: Path, matrix: Matrix
) -> None:
    build(store, tmp_path)
    add(store, matrix[:1] * 0.999, VECTORS)
    store.connection.execute("DELETE FROM entries WHERE name = 'even/2.png'")
    store.connection.execute("DELETE FROM vectors WHERE content = 'c4'")
    store.commit()
    assert nearest(tmp_path, matrix[0], 2) == [0, VECTORS]
    assert nearest(tmp_path, matrix[2], 1) != [2]
    assert nearest(tmp_path, matrix[4], 1) != [4]


def test_a_graph_grows_and_is_built_again_after_many_deletions(
    store: IndexStore, tmp_path: Path, matrix: Matrix
) -> None:
    build(store, tmp_path)
    add(store, -matrix[:50], VECTORS)
    build(store, tmp_path)
    assert last_vector(store.connection, Kind.IMAGE) == VECTORS + 50
    assert nearest(tmp_path, -matrix[7], 1) == [VECTORS + 7]
    store.connection.execute("DELETE FROM vectors WHERE id <= 300")
    store.commit()
    build(store, tmp_path)
    opened = graph.open_graph(tmp_path, Kind.IMAGE, DIMENSIONS)
    assert len(opened) == VECTORS + 50 - 300
    assert nearest(tmp_path, matrix[400], 1) == [400]


@pytest.mark.parametrize("damage", ["cut", "text", "missing", "dimensions"])
def test_a_damaged_graph_is_ignored_then_built_again(
    store: IndexStore, tmp_path: Path, matrix: Matrix, damage: str
) -> None:
    build(store, tmp_path)
    path = graph_path(tmp_path, Kind.IMAGE)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "dimensions":
        narrow = Index(ndim=3, metric="cos", dtype="f16")
        narrow.add(np.arange(2), np.ones((2, 3), dtype=np.float32))
        narrow.save(path)
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"not a graph" * 100)
    assert nearest(tmp_path, matrix[9], 10) == expected(matrix, matrix[9], 10)
    build(store, tmp_path)
    assert len(graph.open_graph(tmp_path, Kind.IMAGE, DIMENSIONS)) == VECTORS


def test_a_filter_is_respected_whether_it_passes_few_or_many(
    store: IndexStore, tmp_path: Path, matrix: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(store, tmp_path)
    odd = [number for number in expected(matrix, matrix[3], VECTORS) if number % 2]
    assert nearest(tmp_path, matrix[3], 20, "odd/*") == odd[:20]
    monkeypatch.setattr("producer.search.storage.neighbours.SCAN_VECTORS", 10)
    assert nearest(tmp_path, matrix[3], 20, "odd/*", exact=True) == odd[:20]
    assert len({*odd[:20]} & {*nearest(tmp_path, matrix[3], 20, "odd/*")}) >= 18
    assert nearest(tmp_path, matrix[3], 20, "*/3.png") == [3]
    assert nearest(tmp_path, matrix[3], 20, "*/nothing") == []


def test_an_open_index_sees_a_replaced_graph(
    store: IndexStore, tmp_path: Path, matrix: Matrix
) -> None:
    build(store, tmp_path)
    cache = GraphCache(tmp_path)
    first = cache.graph(Kind.IMAGE, DIMENSIONS)
    assert cache.graph(Kind.IMAGE, DIMENSIONS) is first
    add(store, -matrix[:50], VECTORS)
    build(store, tmp_path)
    assert len(cache.graph(Kind.IMAGE, DIMENSIONS)) == VECTORS + 50


def test_a_save_that_fails_leaves_the_old_graph(
    store: IndexStore, tmp_path: Path, matrix: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(store, tmp_path)
    data = graph_path(tmp_path, Kind.IMAGE).read_bytes()
    add(store, -matrix[:50], VECTORS)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("producer.search.storage.graph.os.fsync", fail)
    with pytest.raises(InvalidInput, match="cannot be written"):
        build(store, tmp_path)
    assert graph_path(tmp_path, Kind.IMAGE).read_bytes() == data
    assert nearest(tmp_path, -matrix[7], 1) == [VECTORS + 7]
    (tmp_path / "image.usearch.12.part").write_bytes(b"of a killed run")
    remove_parts(tmp_path)
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize(
    ("vectors", "candidates"), [(20_000, 256), (256_000, 256), (1_000_000, 1000), (10**8, 4096)]
)
def test_a_larger_graph_is_searched_with_more_candidates(vectors: int, candidates: int) -> None:
    assert graph.search_expansion(vectors) == candidates
