"""Gradio's queue while nobody uses the page."""

from __future__ import annotations

import asyncio

import gradio
import pytest
from fastapi import FastAPI

from producer.page.access import AccessGate
from producer.page.gradio_app import LOOK_S, _mount_blocks


def test_an_idle_page_looks_seldom_for_events(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def run() -> None:
        queue = _mount_blocks(FastAPI(), gradio.Blocks(), AccessGate.NAME).get_blocks()._queue

        async def record(pause_s: float) -> None:
            pauses.append(pause_s)
            queue.stopped = len(pauses) == 3

        monkeypatch.setattr(asyncio, "sleep", record)
        await queue.start_processing()

    asyncio.run(run())
    assert pauses == [LOOK_S] * 3
