"""Answers that are pending in a browser: the indicator, growing texts, and cancellation."""

from __future__ import annotations

import redis
from playwright.sync_api import expect

from producer import Client, Queue, State
from producer.contract import ItemResult
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from producer.ledger.records import ChunkResult
from tests.page.visitor import IDLE_ROOM, IMAGES, Visitor


def submit_caption(visitor: Visitor, button: str = "#do-caption") -> str:
    """Request a caption, or another answer, and return the id of its job."""
    known = visitor.served.jobs("acme")
    visitor.page.click(button)
    # Pytest's timeout ends an endless loop.
    while not (new := visitor.served.jobs("acme") - known):
        visitor.page.wait_for_timeout(50)
    (job_id,) = new
    return job_id


def wait_until_cancelled(visitor: Visitor, client: Client, job_id: str) -> None:
    # Pytest's timeout ends an endless loop.
    while client.job(job_id).status() is not State.CANCELLED:
        visitor.page.wait_for_timeout(50)


def end_job(worker: redis.Redis, job_id: str, result: ItemResult) -> None:
    """End a job as a worker does."""
    leases = Leases(worker)
    leases.claim(job_id)
    leases.finish(job_id, ChunkResult([result]).encode(job_id), 0)


def test_a_pending_answer_is_indicated_and_another_image_cancels_it(waiting: Visitor) -> None:
    page = waiting.page
    waiting.choose()
    job_id = submit_caption(waiting)
    indicator = page.locator("#caption-answer .waiting")
    expect(indicator).to_be_in_viewport()
    waiting.choose("scene-03.webp")
    expect(indicator).to_be_hidden()
    with Client(waiting.served.redis_url) as client:
        wait_until_cancelled(waiting, client, job_id)


def test_a_second_click_cancels_the_first_job(waiting: Visitor) -> None:
    page = waiting.page
    waiting.choose()
    with Client(waiting.served.redis_url) as client:
        first = submit_caption(waiting)
        page.fill("#prompt input, #prompt textarea", "an orange")
        last = submit_caption(waiting)
        wait_until_cancelled(waiting, client, first)
        assert client.job(last).status() is State.QUEUED
    expect(page.locator("#caption-answer .waiting")).to_be_visible()


def test_a_text_grows_until_the_answer_replaces_it(waiting: Visitor) -> None:
    page = waiting.page
    waiting.choose()
    job_id = submit_caption(waiting)
    growing = page.locator("#caption-answer .growing")
    with redis.Redis.from_url(waiting.served.redis_url) as worker:
        for text in ("a <b>cat", "a <b>cat on a sofa"):
            worker.set(Keys().partial_text(job_id), text)
            expect(growing).to_have_text(text)
            expect(page.locator("#caption-answer .copy")).to_have_count(0)
        end_job(worker, job_id, {"text": "a <b>cat on a sofa."})
    assert waiting.answer() == "a <b>cat on a sofa."
    expect(growing).to_have_count(0)


def test_the_reply_of_a_dialogue_grows_and_another_image_hides_it(waiting: Visitor) -> None:
    page = waiting.page
    waiting.choose()
    waiting.tab("Chat")
    page.fill("#chat-question input, #chat-question textarea", "what is on the sofa?")
    job_id = submit_caption(waiting, "#do-chat")
    reply = page.locator("#dialogue .growing")
    with (
        redis.Redis.from_url(waiting.served.redis_url) as worker,
        Client(waiting.served.redis_url) as client,
    ):
        worker.set(Keys().partial_text(job_id), "a black")
        expect(reply).to_have_text("a black")
        waiting.choose("scene-03.webp")
        expect(reply).to_be_hidden()
        wait_until_cancelled(waiting, client, job_id)


def test_a_batch_can_be_cancelled(waiting: Visitor) -> None:
    page = waiting.page
    waiting.tab("Batch")
    page.set_input_files("#files input[type=file]", [IMAGES / "scene-02.jpg"])
    page.click("#do-batch")
    expect(page.locator("#batch-progress")).to_contain_text("0 of 1")
    page.click("#do-cancel")
    expect(page.locator("#batch-progress")).to_contain_text("Cancelled: 1 of 1 · 1 failed")
    expect(page.locator("#batch-results .answer-details")).to_contain_text("cancelled")
    expect(page.locator("#do-cancel")).to_be_hidden()


def test_without_a_worker_the_job_times_out_and_the_header_shows_the_queue(
    waiting: Visitor,
) -> None:
    page = waiting.page
    waiting.choose()
    page.get_by_text("Options").click()
    page.fill("#deadline-s input, #deadline-s textarea", "0.1")
    page.click("#do-caption")
    expected = "No worker returned a result before the deadline"
    assert waiting.error_message().startswith(expected)
    with Client(waiting.served.redis_url) as client:
        room = IDLE_ROOM - client.depth().items[Queue.INTERACTIVE]
        jobs = [client.caption("https://example.com/a.png") for _ in range(room)]
        expect(page.locator(".facts dd").first).to_have_text(str(IDLE_ROOM))
        page.click("#do-caption")
        assert waiting.error_message() == "The queue is full: try again later."
        for job in jobs:
            job.cancel()
