"""Searches: order, filters, kinds, re-ranking, and the model of the index."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from producer import AsyncClient, Client, InvalidInput, WaitTimeout
from producer.search.index import SearchIndex
from producer.search.update import UpdateOptions
from tests.search.conftest import ColorWorker, paint


@pytest.fixture
def filled(index: SearchIndex, photos: Path, tmp_path: Path) -> SearchIndex:
    """An index of four pictures and two texts."""
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "a red and blue flag"}\n{"text": "a green field"}\n')
    index.update(photos, texts)
    return index


def test_hits_are_images_in_the_order_of_the_cosine(filled: SearchIndex) -> None:
    hits = filled.search("something blue", count=3)
    assert [hit.name for hit in hits[:2]] == ["blue.png", "sea/deep blue.png"]
    assert hits[0].cosine == pytest.approx(1.0, abs=1e-3)
    assert hits[0].path is not None
    assert hits[0].path.is_absolute()
    assert hits == sorted(hits, key=lambda hit: -hit.cosine)


def test_an_image_finds_images_or_texts(filled: SearchIndex, tmp_path: Path) -> None:
    query = paint(tmp_path / "query.png", (200, 20, 20))
    assert filled.search(image=query)[0].name == "red.png"
    hits = filled.search(image=query, find="text")
    assert [hit.value for hit in hits] == ["a red and blue flag", "a green field"]


def test_path_filters_match_names_and_absolute_paths(filled: SearchIndex, photos: Path) -> None:
    assert [hit.name for hit in filled.search("red", paths=["sea/*"])] == ["sea/deep blue.png"]
    hits = filled.search("red", paths=[f"{photos}/r*", "g*"])
    assert [hit.name for hit in hits] == ["red.png", "green.png"]
    assert filled.search("red", paths=["nothing*"]) == []


def test_reranking_orders_the_first_hits_by_probability(
    filled: SearchIndex, worker: ColorWorker, photos: Path
) -> None:
    hits = filled.search("red", rerank=3)
    # The worker's probabilities contradict the cosines of red.
    assert [hit.name for hit in hits][-1] in ("green.png", "blue.png")
    probabilities = [hit.probability for hit in hits]
    assert probabilities[:3] == sorted(filter(None, probabilities), reverse=True)
    assert probabilities[3] is None
    assert worker.matched == 3


def test_an_image_that_is_gone_keeps_its_cosine_below_the_judged_hits(
    filled: SearchIndex, photos: Path
) -> None:
    (photos / "red.png").unlink()
    hits = filled.search("red", rerank=4)
    assert (hits[-1].name, hits[-1].probability) == ("red.png", None)
    assert "No such file" in (hits[-1].error or "")


def test_texts_are_reranked_by_an_image(
    filled: SearchIndex, worker: ColorWorker, photos: Path
) -> None:
    hits = filled.search(image=photos / "red.png", find="text", rerank=10)
    assert [hit.probability is None for hit in hits] == [False, False]
    assert worker.matched == 2


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (lambda index: index.search(), "pass one of them"),
        (lambda index: index.search("red", image=b"x"), "pass one of them"),
        (lambda index: index.search(" "), "text is empty"),
        (lambda index: index.search("red", count=0), "count=0"),
        (lambda index: index.search("red", rerank=-1), "rerank=-1"),
        (lambda index: index.search("red", find="video"), "find='video'"),
        (lambda index: index.search("red", find="text", rerank=4), "compares a text with an image"),
        (lambda index: index.search(image=b"x", rerank=4), "compares a text with an image"),
    ],
)
def test_invalid_arguments_are_refused(
    index: SearchIndex, search: Callable[[SearchIndex], object], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        search(index)


def test_a_folder_without_an_index_is_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no index"):
        client.index(tmp_path).search("red")
    (tmp_path / "index.db").write_bytes(b"not a database" * 100)
    with pytest.raises(InvalidInput, match="cannot be used as an index"):
        client.index(tmp_path).search("red")


def test_a_damaged_index_is_refused(filled: SearchIndex) -> None:
    path = filled.folder / "index.db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    for action in (lambda: filled.search("red"), filled.update):
        with pytest.raises(InvalidInput, match="cannot be used as an index"):
            action()


def test_an_index_of_another_model_is_refused_with_the_remedy(
    filled: SearchIndex, client: Client, worker: ColorWorker
) -> None:
    worker.revision, worker.channels = "r2", (1, 2, 0)
    for action in (
        lambda: filled.search("red"),
        lambda: client.index(filled.folder).search("red"),
        filled.update,
    ):
        with pytest.raises(InvalidInput, match=r"another model.*--rebuild") as error:
            action()
        assert "r1" in str(error.value)
        assert "r2" in str(error.value)
    counts = filled.update(rebuild=True)
    assert (counts.embedded, counts.failed) == (6, 0)
    assert filled.search("red")[0].name == "red.png"
    assert filled.facts().revisions == ["r2"]


@pytest.mark.parametrize("revision", ["r2", ""])
def test_the_same_model_in_other_software_is_accepted_by_its_vectors(
    filled: SearchIndex, worker: ColorWorker, photos: Path, revision: str
) -> None:
    worker.revision = revision
    assert filled.search("red")[0].name == "red.png"
    paint(photos / "rose.png", (250, 100, 100))
    assert filled.update().embedded == 1
    assert filled.facts().revisions == sorted({"r1", revision} - {""})


def test_a_model_that_changes_during_an_update_is_noticed(
    index: SearchIndex, worker: ColorWorker, photos: Path
) -> None:
    worker.takes_batches.clear()

    def change(_: object) -> None:
        worker.revision, worker.channels = "r2", (1, 2, 0)
        worker.takes_batches.set()

    with pytest.raises(InvalidInput, match="another model"):
        index.update(photos, options=UpdateOptions(on_counts=change))


def test_vectors_of_other_dimensions_are_another_model(
    filled: SearchIndex, worker: ColorWorker
) -> None:
    worker.revision, worker.channels = "r2", (0, 1, 2, 0)
    with pytest.raises(InvalidInput, match="3 dimensions"):
        filled.search("red")


def test_a_search_without_a_worker_times_out(filled: SearchIndex, worker: ColorWorker) -> None:
    worker.stop()
    with pytest.raises(WaitTimeout, match="Is one running"):
        filled.search("red", timeout=0.1)


def test_a_search_sees_what_an_update_has_stored_so_far(index: SearchIndex, photos: Path) -> None:
    index.update(photos)
    paint(photos / "violet.png", (120, 10, 120))
    seen: list[int] = []
    index.update(options=UpdateOptions(on_counts=lambda _: seen.append(len(index.search("red")))))
    assert seen[0] == 4
    assert len(index.search("red")) == 5


def test_threads_share_an_index(filled: SearchIndex) -> None:
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda: names.append(filled.search("green")[0].name))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == ["green.png"] * 8


async def _searched(redis_url: str, folder: Path, photos: Path) -> list[str]:
    async with AsyncClient(redis_url) as client:
        index = client.index(folder)
        assert (await index.update(photos)).embedded == 4
        assert (await index.facts()).images == 4
        searches = (index.search(color, count=1) for color in ("red", "green", "blue"))
        return [hits[0].name for hits in await asyncio.gather(*searches)]


@pytest.mark.usefixtures("worker")
def test_an_event_loop_searches_concurrently(redis_url: str, photos: Path, tmp_path: Path) -> None:
    names = asyncio.run(_searched(redis_url, tmp_path / "index", photos))
    assert names == ["red.png", "green.png", "blue.png"]
