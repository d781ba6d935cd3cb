"""Flower shows the tasks of a real worker, readable and in every state."""

from __future__ import annotations

import re

from demo.tour import pictures
from producer import Client
from tests.flower.api import running_api
from tests.redis_servers import wait_until
from tests.system.conftest import Stack

JOBS = 100
URL = "http://127.0.0.1:1/cat.jpg"


def test_flower_shows_readable_arguments_results_and_states(stack: Stack, user: Client) -> None:
    with running_api(stack.redis_url) as flower:
        # Flower shows only the tasks that start after it listens.
        wait_until(lambda: bool(user.ask(URL, "is it?") and flower.tasks()), "any task in Flower")
        # Many at once, so that events come from many threads at the same time.
        jobs = [user.ask(URL, "what shape is it?") for _ in range(JOBS)]
        for job in jobs:
            task = flower.wait_for(job.id, "SUCCESS")
            assert task["name"] == "blipline.vqa"
            assert task["kwargs"] == f"{URL} 'what shape is it?'"
            assert task["result"] == "image_blocked"
            assert task["received"]
            assert task["started"]
            assert task["succeeded"]
        items = [{"image": path.read_bytes(), "custom_id": path.name} for path in pictures()[:4]]
        # No other test has these options, so that no answer comes from the result cache.
        batch = user.submit_batch([*items, {"image": URL}], max_new_tokens=23)
        task = flower.wait_for(f"{batch.id}:0", "SUCCESS")
        names = ", ".join(repr(item["custom_id"]) for item in items[:3])
        assert task["kwargs"].startswith(f"5 items {names}, …: blob:")
        summary = r"4 done, 1 image_blocked, \d\.\d rows a batch: ('an? [^']+', ){3}…"
        assert re.fullmatch(summary, task["result"])
        # Actions need a setting.
        assert flower.act(f"task/revoke/{batch.id}:0")[0] == 403
