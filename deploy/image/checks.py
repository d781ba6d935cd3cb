"""Checks of the running system: the demo batch, the gateway, Flower, and SIGTERM under load."""

from __future__ import annotations

import sys
import time
from typing import Final

import httpx

from demo.tour import Tour, pictures, take
from deploy.image.podman import ImageError, podman
from deploy.image.requests import JobRequests
from deploy.image.system import System, container, stop
from producer import Client
from producer.batch import Batch

#: Items of the batch that a stop must not harm, as multiples of the sample pictures.
ROUNDS: Final = 100
#: Seconds without progress after which something must be wrong.
WAIT_S: Final = 600.0


def demo_batch(system: System) -> Tour:
    """Let the containers answer the demo batch. Raises ImageError if an item fails."""
    with Client(system.redis_url) as client:
        tour = take(client, pictures(), lambda _: None)
    if tour.failed:
        raise ImageError(f"{tour.failed} of {tour.items} items of the demo batch failed")
    return tour


def gateway_answers(system: System) -> str:
    """Return a caption by the gateway, for an API key that a container made."""
    headers = {"Authorization": f"Bearer {_api_key()}", "Content-Type": "image/png"}
    image = pictures()[0].read_bytes()
    url = f"{system.gateway}/v1/caption"
    answer = httpx.post(url, content=image, headers=headers, timeout=90)
    if answer.status_code != 200 or answer.json()["status"] != "done":
        raise ImageError(f"the gateway answers {answer.status_code}: {answer.text}")
    return str(answer.json()["output"]["text"])


def flower_is_closed(system: System) -> None:
    """Check that Flower wants its credentials. Raises ImageError."""
    login = tuple(system.environment["BLIPLINE_FLOWER_AUTH"].split(":"))
    statuses = [
        httpx.get(f"{system.flower}/api/workers", auth=auth).status_code
        for auth in (None, ("ann", "wrong"), (login[0], login[1]))
    ]
    if statuses != [401, 401, 200]:
        raise ImageError(f"Flower answers {statuses} instead of 401, 401, 200")


def stops_under_load(system: System) -> dict[str, float]:
    """Stop each process while a batch and requests run; return the seconds that each took.

    Raises ImageError if one exceeds its grace period, ends with another exit code than 0, or if an
    item or an accepted request is lost.
    """
    seconds: dict[str, float] = {}
    images = [path.read_bytes() for path in pictures()] * ROUNDS
    with Client(system.redis_url) as client, JobRequests(system.gateway, _api_key()) as jobs:
        for service in ("worker-cpu", "flower", "gateway", "redis"):
            batch = client.submit_batch(images)
            _wait_for_progress(batch)
            seconds[service] = stop(container(service), service)
            podman("start", container(service))
            system.wait_until_healthy(container(service))
            results = list(batch.results(timeout=WAIT_S))
            wrong = sum(not result.ok for result in results)
            if len(results) != len(images) or wrong:
                raise ImageError(f"{len(results)} of {len(images)} results, {wrong} of them errors")
        lost = jobs.lost()
    print(f"image: requests during the stops: {dict(jobs.outcomes)}", file=sys.stderr)
    if lost:
        raise ImageError(f"accepted jobs without a text: {lost}")
    return seconds


def _api_key() -> str:
    """Let a container make an API key."""
    command = ["python", "-m", "producer.cli", "keys", "create", "image-check"]
    return podman("exec", container("gateway"), *command).split()[-1]


def _wait_for_progress(batch: Batch) -> None:
    before, deadline = batch.progress().done, time.monotonic() + WAIT_S
    while batch.progress().done <= before:
        if time.monotonic() > deadline:
            raise ImageError(f"the batch makes no progress: {batch.progress()}")
        time.sleep(0.05)
    if batch.progress().finished:
        raise ImageError("the batch ended before the stop: raise ROUNDS")
