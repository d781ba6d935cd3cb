"""The handlers of the batch tab, without a worker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from producer import AsyncClient
from producer.page import batches
from producer.page.batches import BatchHandlers
from producer.page.options import FIELDS
from tests.page.visitor import IMAGES

OPTIONS = [value for _, value, _ in FIELDS.values()]


async def run_batch(
    redis_url: str, uploads: Any, task: str = "caption", question: str = ""
) -> list[Any]:
    """Run a batch and return all outputs."""
    request: Any = SimpleNamespace(username="acme")
    async with AsyncClient(redis_url) as client:
        gateway: Any = SimpleNamespace(client=client)
        handlers = BatchHandlers(gateway)
        outputs = handlers.run(request, uploads, task, question, *OPTIONS)
        return [output async for output in outputs]


def test_a_stalled_batch_is_no_longer_polled_and_its_results_can_be_downloaded(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(batches, "STALL_S", 0.0)
    monkeypatch.setattr(gr, "Warning", warnings.append)
    uploads = [{"path": str(IMAGES / "scene-02.jpg"), "orig_name": "a.jpg"}]
    outputs = asyncio.run(run_batch(redis_url, uploads))
    progress, _, links, public_id, button, cancel = outputs[-1]
    assert "0 of 1" in progress
    assert f"results/{public_id}.csv" in links
    assert button["interactive"]
    assert not cancel["visible"]
    (warning,) = warnings
    assert "No worker has started this batch" in warning
    assert public_id in warning


def test_a_file_that_was_deleted_fails_only_its_own_item() -> None:
    uploads = [{"path": "/nowhere/secret/a.jpg", "orig_name": "a.jpg"}]
    (item,) = batches._items(uploads, {})
    assert item["custom_id"] == "a.jpg"
    assert "has expired" in item["error"]["message"]
    assert "secret" not in item["error"]["message"]


@pytest.mark.parametrize(
    ("uploads", "task", "question", "message"),
    [
        (None, "caption", "", "Choose one or more images first."),
        ([{"path": "a"}] * 501, "caption", "", "at most 500 images, not 501"),
        ([{"path": "a"}], "vqa", " ", "Enter a question first."),
    ],
)
def test_an_invalid_batch_is_reported(
    redis_url: str, uploads: Any, task: str, question: str, message: str
) -> None:
    with pytest.raises(gr.Error, match=message):
        asyncio.run(run_batch(redis_url, uploads, task, question))
