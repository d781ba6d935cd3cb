"""The summaries of items and results that monitors show."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from kombu.utils.json import dumps

from producer.contract import ItemResult, failure
from producer.ledger.item_summary import summarize
from worker.consumer.chunk_results import ChunkResults, all_cancelled
from worker.consumer.item_handler import ChunkState
from worker.engine.request import Answer

URL = "https://u:pw@x.org/1.jpg?sig=SECRET"
BLOB = f"blob:{'0123456789abcdef' * 4}"
SECRETS = ("pw", "SECRET", "AAAA")


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([{"image": URL}], "https://x.org/1.jpg?…"),
        ([{"image": URL, "question": "is it?"}], "https://x.org/1.jpg?… 'is it?'"),
        ([{"image": BLOB, "custom_id": "a"}], "'a': blob:0123456789ab…"),
        ([{"text": "a cat"}], "'a cat'"),
        ([{"image": "data:image/png;base64,AAAA", "texts": ["a", "b"]}], "data:… 'a'"),
        ([{"image": "AAAA" * 99}], "(396 characters)"),
        ([{"image": "blob:x", "custom_id": str(n)} for n in range(4)],
         "4 items '0', '1', '2', …: blob:x, …"),
        ([{"custom_id": "data:,AAAA", "prompt": f"at {URL} now"}],
         "'data:…': 'at https://x.org/1.jpg?… now'"),
        ([], "0 items"),
        ([7, None], "2 items"),
    ],
)  # fmt: skip
def test_items_are_summarized_without_images_and_secrets(items: list[Any], expected: str) -> None:
    assert summarize(items) == expected


def test_a_summary_of_anything_is_short_and_shows_no_secret() -> None:
    values = [URL, BLOB, "data:,AAAA", f"see {URL}", "x" * 9999, 7, None, [], {}, ["a", URL], ""]
    names = ["image", "question", "prompt", "text", "texts", "custom_id", "options"]
    random = Random(1)
    for _ in range(3000):
        items: list[Any] = [
            {name: random.choice(values) for name in names if random.random() < 0.6}
            for _ in range(random.randrange(1, 6))
        ]
        shown = summarize(random.choice([items, [*items, random.choice(values)]]))
        assert len(shown) < 400
        assert not [secret for secret in SECRETS if secret in shown], items


def test_results_are_json_and_their_text_is_a_summary() -> None:
    results: list[ItemResult] = [{"text": f"a cat {n}"} for n in range(4)]
    results.append(failure("image_invalid", "damaged"))
    state = ChunkState()
    for rows in (0, 4, 9):
        state.count(Answer(1, batch_rows=rows))
    chunk = ChunkResults(results, state)
    assert json.loads(dumps(chunk)) == results
    assert list(chunk) == results
    counts = "4 done, 1 image_invalid, 6.5 rows a batch"
    assert repr(chunk) == f"{counts}: 'a cat 0', 'a cat 1', 'a cat 2', …"
    assert repr(ChunkResults([{"embedding": [0.5] * 999}], ChunkState())) == "done"
    assert repr(ChunkResults([failure("internal", URL)], ChunkState())) == "internal"


def test_only_chunks_without_another_outcome_are_cancelled() -> None:
    cancelled = failure("cancelled", "by the user")
    assert all_cancelled([])
    assert all_cancelled([cancelled, cancelled])
    assert not all_cancelled([cancelled, {"text": "a cat"}])
    assert not all_cancelled([failure("internal", "cancelled")])
