"""Flower's tasks survive its restart, in a database of bounded size."""

from __future__ import annotations

from pathlib import Path

from producer import Client
from tests.flower.api import running_api
from tests.redis_servers import wait_until


def test_tasks_survive_a_restart_of_flower(redis_url: str, tmp_path: Path) -> None:
    database = str(tmp_path / "flower" / "state")
    with Client(redis_url) as user:
        with running_api(redis_url, DB=database) as flower:
            # Flower shows only what is submitted after it listens.
            wait_until(lambda: bool(user.caption("https://x/1.jpg") and flower.tasks()), "a task")
            job = user.ask("https://x/2.jpg", "what is it?")
            before = flower.wait_for(job.id, "PENDING")
        with running_api(redis_url, DB=database) as flower:
            assert flower.task(job.id) == before
            restored = len(flower.tasks())
            wait_until(
                lambda: bool(user.caption("https://x/3.jpg") and len(flower.tasks()) > restored),
                "a new task",
            )
