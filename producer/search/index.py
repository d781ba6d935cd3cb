"""A handle on a search index in a folder: updates and searches."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import BliplineError, InvalidInput
from ..ledger.blobs import ImageSource
from ..validation import check_count, check_text
from .counts import IndexCounts
from .entry import Kind
from .extras import required
from .fingerprint import WAIT_S, Fingerprint, result_of
from .hit import Hit, hits_of
from .rerank import Reranker, check_rerank
from .sources import check as check_source
from .storage import database
from .storage.graph import GraphBuilder, OnAdded, graph_path, remove_parts
from .storage.neighbours import GraphCache, NeighbourSearch, PathFilter
from .storage.store import IndexStore, count_vectors, read_meta
from .update import IndexUpdate, UpdateOptions

if TYPE_CHECKING:
    from ..client import Client

#: Folder of the index, in the working directory, unless another is named.
DEFAULT_FOLDER: Final = ".blipline-index"
#: Maximum hits of a search.
MAX_HITS: Final = 100_000


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """The contents of an index."""

    images: int
    texts: int
    dimensions: int
    revisions: list[str]
    sources: list[str]


class SearchIndex:
    """A search index in a folder, which need not exist yet. Thread-safe.

    Methods raise InvalidInput if the folder cannot be used, or if the index has vectors of another
    model than the worker's, and the errors of Client.
    """

    def __init__(self, client: Client, folder: str | os.PathLike[str], submitter: str = "") -> None:
        self.folder = Path(folder)
        self._client = client
        self._submitter = submitter
        self._graphs = GraphCache(self.folder)
        #: Revisions of workers that have the index's model, as probes have shown.
        self._revisions: set[str] = set()

    def __repr__(self) -> str:
        return f"SearchIndex({str(self.folder)!r})"

    def update(
        self,
        *sources: str | Path,
        rebuild: bool = False,
        options: UpdateOptions = UpdateOptions(),  # noqa: B008 - immutable
        on_added: OnAdded = lambda added, total: None,
    ) -> IndexCounts:
        """Embed the new and changed entries of sources, and remove those that are gone.

        A source is a folder, a pattern, an image, a URL, a list (`.txt`, `.jsonl`), a table
        (`.csv`, `.tsv`, `.parquet`), an archive (`.tar`), a prefix of an object store, or ``-`` for
        a list on stdin; none means those of earlier updates. An interrupted update can be repeated.
        `rebuild` embeds everything again, with the worker's current model. Raises InvalidInput if
        another process updates the index.
        """
        for module in ("numpy", "usearch.index"):
            required(module)
        self._check_start(list(map(str, sources)))
        with (
            database.write_lock(self.folder),
            database.errors_of(self.folder),
            IndexStore(self.folder) as store,
        ):
            remove_parts(self.folder)
            names = [str(source) for source in sources] or _known_sources(store, self.folder)
            if rebuild:
                self._clear(store)
            fingerprint = self._fingerprint(store)
            options = replace(options, submitter=options.submitter or self._submitter)
            counts = IndexUpdate(self._client, store, fingerprint, options).run(names)
            builder = GraphBuilder(store, self.folder, on_added)
            for kind in Kind:
                builder.refresh(kind, fingerprint.dimensions)
            return counts

    def _check_start(self, names: Sequence[str]) -> None:
        """Check what would leave an empty index: raises InvalidInput, or ConnectionFailed."""
        if not names and not (self.folder / database.NAME).exists():
            raise _no_sources(self.folder)
        for name in names:
            check_source(name)
        self._client.depth()

    def search(
        self,
        text: str | None = None,
        *,
        image: ImageSource | None = None,
        count: int = 10,
        rerank: int = 0,
        paths: Sequence[str] = (),
        find: Kind | str = Kind.IMAGE,
        exact: bool = False,
        timeout: float = WAIT_S,
    ) -> list[Hit]:
        """Return the images, or with ``find="text"`` the texts, nearest to a text or an image.

        Hits are in the order of the cosine. `rerank` orders that many of them by the probability
        that text and image match. `paths` are patterns of names, of which a hit matches one; ``*``
        also matches ``/``. `exact` compares all vectors. `timeout` in seconds limits the wait for
        the query's vector, and for the re-ranking.
        """
        kind = _kind(find)
        check_count("count", count, MAX_HITS)
        check_rerank(rerank, is_image_query=image is not None, find=kind)
        _check_query(text, image)
        with self._reading() as (connection, fingerprint):
            filtered = PathFilter(paths)
            vector = self._vector(fingerprint, text, image, timeout)
            neighbours = NeighbourSearch(connection, kind, filtered, self._graphs)
            nearest = neighbours.nearest(vector, max(count, rerank), exact=exact)
            hits = list(hits_of(connection, nearest, filtered))
        if rerank:
            reranker, first = Reranker(self._client, timeout), hits[:rerank]
            if image is None:
                hits[:rerank] = reranker.images(text or "", first)
            else:
                hits[:rerank] = reranker.texts(image, first)
        return hits[:count]

    def facts(self) -> IndexFacts:
        """Read the contents of the index, without a worker."""
        with self._reading() as (connection, fingerprint):
            return IndexFacts(
                count_vectors(connection, Kind.IMAGE),
                count_vectors(connection, Kind.TEXT),
                fingerprint.dimensions,
                sorted(fingerprint.revisions),
                json.loads(read_meta(connection, "sources") or "[]"),
            )

    def _clear(self, store: IndexStore) -> None:
        """Remove all vectors, and the batches that would bring them back."""
        for batch_id in store.batches():
            try:
                self._client.batch(batch_id).delete(keep_cached=True)
            except BliplineError:
                # It has expired, or expires later; nothing reads it.
                continue
        store.remove_all_vectors()
        for kind in Kind:
            graph_path(self.folder, kind).unlink(missing_ok=True)

    def _fingerprint(self, store: IndexStore) -> Fingerprint:
        """Return the identity of the model; raises InvalidInput if the worker has another one."""
        stored = Fingerprint.read(store.connection)
        if stored is None:
            stored = Fingerprint.of_worker(self._client)
        else:
            stored.check(self._client)
        stored.store(store)
        return stored

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, Fingerprint]]:
        required("numpy")
        with (
            closing(database.open_for_reading(self.folder)) as connection,
            database.errors_of(self.folder),
        ):
            fingerprint = Fingerprint.read(connection)
            if fingerprint is None:
                raise InvalidInput(
                    f"{self.folder}: the index is empty; `blipline index` embeds a collection"
                )
            yield connection, fingerprint

    def _vector(
        self,
        fingerprint: Fingerprint,
        text: str | None,
        image: ImageSource | None,
        timeout_s: float,
    ) -> Any:
        """Return the vector of the query, of the same model as those of the index."""
        result = result_of(self._client.embed(image, text=text), timeout_s)
        fingerprint.revisions |= self._revisions
        self._revisions |= fingerprint.confirm(self._client, result, timeout_s)
        return result.embedding


def _known_sources(store: IndexStore, folder: Path) -> list[str]:
    sources: list[str] = json.loads(store.meta("sources") or "[]")
    if not sources:
        raise _no_sources(folder)
    return sources


def _no_sources(folder: Path) -> InvalidInput:
    return InvalidInput(f"{folder}: has no sources yet: name a folder, a pattern or a list")


def _kind(find: Kind | str) -> Kind:
    try:
        return Kind(find)
    except ValueError:
        known = ", ".join(kind.value for kind in Kind)
        raise InvalidInput(f"find={find!r}: choose one of {known}") from None


def _check_query(text: str | None, image: ImageSource | None) -> None:
    if (text is None) == (image is None):
        raise InvalidInput("search by a text or by an image: pass one of them")
    if text is not None:
        check_text("text", text)
