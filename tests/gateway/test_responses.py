"""Response models: the seconds until the next poll."""

from __future__ import annotations

import time

import pytest

from producer import Client
from producer.contract import Task
from producer.gateway.schemas.metadata import RequestMetadata
from producer.gateway.schemas.responses import MAX_POLL_S, poll_after_s

from .conftest import Reached
from .samples import URL


def polls_until(age_s: float) -> int:
    """Return the polls of a client that follows Retry-After for this time."""
    now, count, elapsed_s = time.time(), 0, 0.0
    while elapsed_s < age_s:
        elapsed_s += poll_after_s(now - elapsed_s)
        count += 1
    return count


@pytest.mark.parametrize(
    ("age_s", "delay_s"),
    [(-3600, 1), (0, 1), (3, 1), (20, 5), (60, 15), (120, 30), (1e6, MAX_POLL_S)],
)
def test_the_next_poll_of_an_older_job_is_later(age_s: float, delay_s: int) -> None:
    assert poll_after_s(time.time() - age_s) == delay_s


def test_hundreds_of_polled_jobs_stay_within_the_rate_of_a_key() -> None:
    assert polls_until(1) == 1
    # A rate of 600 requests a minute for an hour.
    assert 250 * polls_until(3600) < 600 * 60


@pytest.mark.parametrize("kind", ["jobs", "batches"])
def test_a_response_says_when_to_poll_again(gateway: Reached, client: Client, kind: str) -> None:
    note = RequestMetadata(Task.CAPTION, time.time() - 40).encode()
    client.submit(URL, job_id="acme.job.polled", note=note)
    client.submit_batch([URL], batch_id="acme.batch.polled", note=note)
    answer = gateway.client().get(f"/v1/{kind}/polled")
    assert 10 <= int(answer.headers["Retry-After"]) <= MAX_POLL_S
