"""Batching: a loop task completes all its futures."""

from __future__ import annotations

import asyncio

import pytest

from producer.aio.batching import LoopTask


class Silent(LoopTask[str]):
    """A loop task that never answers."""

    def add(self) -> asyncio.Future[str | Exception]:
        return self.new_future()

    async def process(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("begun", [False, True])
def test_a_cancelled_loop_task_cancels_its_pending_futures(begun: bool) -> None:
    async def scenario() -> None:
        others = asyncio.all_tasks()
        silent = Silent()
        future = silent.add()
        silent.start()
        if begun:
            await asyncio.sleep(0.05)
        (task,) = asyncio.all_tasks() - others
        task.cancel()
        await asyncio.wait([future], timeout=5)
        assert future.cancelled()
        assert not silent.running

    asyncio.run(scenario())
