"""Flower and a real worker after outages of Redis; the end of a worker by Flower's page."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.stack import running_worker
from producer import Client
from tests.flower.api import FlowerAPI, running_api
from tests.redis_servers import Server, wait_until

#: The consumers of one worker.
CONSUMERS = 2


def cut_connections(server: Server) -> None:
    with server.connect() as connection:
        for kind in ("normal", "pubsub"):
            connection.client_kill_filter(_type=kind)


def restart(server: Server) -> None:
    server.kill()
    server.start()


def shows_new_tasks(user: Client, flower: FlowerAPI) -> bool:
    job = user.caption("https://x/1.jpg")
    job.result(60)
    try:
        wait_until(lambda: flower.task(job.id).get("state") == "SUCCESS", "the job", 2)
    except TimeoutError:
        # Flower has not connected again yet.
        return False
    return True


def check_flower(user: Client, flower: FlowerAPI) -> None:
    wait_until(lambda: shows_new_tasks(user, flower), "new tasks in Flower")
    wait_until(lambda: len(flower.online()) == CONSUMERS, "workers online")
    wait_until(lambda: len(flower.workers()) == CONSUMERS, "workers that answer")


@pytest.mark.timeout(400)
def test_events_survive_outages_and_a_shutdown_ends_the_worker_once(tmp_path: Path) -> None:
    server = Server(tmp_path)
    url = f"redis://127.0.0.1:{server.port}/0"
    server.start()
    try:
        with (
            running_worker(url, {"BLIPLINE_MODEL": "null"}, quiet=True) as worker,
            running_api(url, READ_ONLY="false") as flower,
            Client(url) as user,
        ):
            check_flower(user, flower)
            for outage in (cut_connections, restart):
                outage(server)
                check_flower(user, flower)
            # A worker's own queue returns, as the answer says.
            bulk = next(name for name in flower.online() if name.startswith("bulk"))
            status, message = flower.act(f"worker/queue/cancel-consumer/{bulk}", queue="bulk")
            assert (status, "for 10 s" in message) == (200, True)
            # Each consumer asks for the end of the whole worker; that is no reason for haste.
            for name in sorted(flower.online()):
                assert flower.act(f"worker/shutdown/{name}") == (200, "Shutting down!")
            assert worker.process.wait(60) == 0
            wait_until(lambda: not flower.online(), "workers offline")
    finally:
        server.kill()
