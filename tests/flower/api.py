"""A client of Flower's HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from demo.stack import running_flower
from tests.redis_servers import wait_until

LOGIN = ("ann", "secret")


@contextmanager
def running_api(redis_url: str, **settings: str) -> Iterator[FlowerAPI]:
    """Run Flower; `settings` are its variables without `BLIPLINE_FLOWER_`."""
    variables = {f"BLIPLINE_FLOWER_{name}": value for name, value in settings.items()}
    variables["BLIPLINE_FLOWER_AUTH"] = ":".join(LOGIN)
    with (
        running_flower(redis_url, settings=variables) as address,
        httpx.Client(base_url=address, auth=LOGIN, timeout=60) as http,
    ):
        yield FlowerAPI(http)


class FlowerAPI:
    """Flower's tasks, workers and actions."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def tasks(self) -> dict[str, Any]:
        """Return the tasks by id."""
        return dict(self._http.get("/api/tasks").raise_for_status().json())

    def task(self, task_id: str) -> dict[str, Any]:
        """Return a task; empty if Flower does not know it."""
        return dict(self.tasks().get(task_id, {}))

    def wait_for(self, task_id: str, state: str) -> dict[str, Any]:
        """Wait until Flower shows a task in this state; return it."""
        wait_until(lambda: self.task(task_id).get("state") == state, f"{task_id} as {state}")
        return self.task(task_id)

    def workers(self) -> dict[str, Any]:
        """Ask the workers for their state."""
        return dict(self._http.get("/api/workers?refresh=1").raise_for_status().json())

    def online(self) -> set[str]:
        """Return the workers of the page that are online."""
        rows = self._http.get("/workers?json=1").raise_for_status().json()["data"]
        return {row["hostname"] for row in rows if row["status"]}

    def waiting(self) -> dict[str, int]:
        """Return the lengths of the queues."""
        queues = self._http.get("/api/queues/length").raise_for_status().json()["active_queues"]
        return {queue["name"]: queue["messages"] for queue in queues}

    def page(self, path: str) -> str:
        """Return a page as text."""
        return self._http.get(path).raise_for_status().text

    def act(self, path: str, **arguments: Any) -> tuple[int, str]:
        """Perform an action; return the status and Flower's message."""
        response = self._http.post(f"/api/{path}", params=arguments)
        if response.status_code == 200:
            return 200, response.json()["message"]
        return response.status_code, response.text
