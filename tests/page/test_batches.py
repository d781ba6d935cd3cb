"""The batch tab where nobody works."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from producer import AsyncClient
from producer.page import batches
from producer.page.batches import Batches
from producer.page.options import FIELDS
from tests.page.visitor import IMAGES

OPTIONS = [value for _, value, _ in FIELDS.values()]


async def shown(redis_url: str, uploads: Any, task: str = "caption", asked: str = "") -> list[Any]:
    """Everything that a click shows, one after the other."""
    request: Any = SimpleNamespace(username="acme")
    async with AsyncClient(redis_url) as client:
        gateway: Any = SimpleNamespace(client=client)
        return [one async for one in Batches(gateway).run(request, uploads, task, asked, *OPTIONS)]


def test_a_batch_that_nobody_takes_is_no_longer_watched_and_can_be_fetched(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(batches, "SILENT_S", 0.0)
    monkeypatch.setattr(gr, "Warning", warnings.append)
    uploads = [{"path": str(IMAGES / "scene-02.jpg"), "orig_name": "a.jpg"}]
    seen = asyncio.run(shown(redis_url, uploads))
    progress, _, links, outer, button, cancel = seen[-1]
    assert "0 of 1" in progress
    assert f"results/{outer}.csv" in links
    assert button["interactive"]
    assert not cancel["visible"]
    (warning,) = warnings
    assert "No worker has begun it" in warning
    assert outer in warning


def test_a_file_that_is_gone_is_a_row_of_its_own() -> None:
    uploads = [{"path": "/nowhere/secret/a.jpg", "orig_name": "a.jpg"}]
    (item,) = batches._items(uploads, {})
    assert item["custom_id"] == "a.jpg"
    assert "no longer here" in item["error"]["message"]
    assert "secret" not in item["error"]["message"]


@pytest.mark.parametrize(
    ("uploads", "task", "asked", "said"),
    [
        (None, "caption", "", "Choose some pictures first."),
        ([{"path": "a"}] * 501, "caption", "", "500 pictures at once, not 501"),
        ([{"path": "a"}], "vqa", " ", "Write a question first."),
    ],
)
def test_what_cannot_be_run_is_said(
    redis_url: str, uploads: Any, task: str, asked: str, said: str
) -> None:
    with pytest.raises(gr.Error, match=said):
        asyncio.run(shown(redis_url, uploads, task, asked))
