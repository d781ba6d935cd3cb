"""Pending answers in a browser: the waiting indicator, cancellation, and stale answers."""

from __future__ import annotations

import json

import pytest
import redis
from playwright.sync_api import Browser, expect

from producer import Client, State
from producer.contract import ItemResult
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from producer.ledger.records import ChunkResult
from tests.page.visitor import CAPTION, Served, Visitor


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


def test_a_pending_answer_is_indicated_and_another_image_cancels_it(
    browser: Browser, idle: Served
) -> None:
    visitor = Visitor(browser, idle)
    page = visitor.sign_in()
    visitor.choose()
    job_id = submit_caption(visitor)
    waiting = page.locator("#caption-answer .waiting")
    expect(waiting).to_be_in_viewport()
    visitor.choose("scene-03.webp")
    expect(waiting).to_be_hidden()
    with Client(idle.redis_url) as client:
        wait_until_cancelled(visitor, client, job_id)
    visitor.close()
    assert visitor.errors == []


def test_a_second_click_cancels_the_first_job(browser: Browser, idle: Served) -> None:
    visitor = Visitor(browser, idle)
    page = visitor.sign_in()
    visitor.choose()
    with Client(idle.redis_url) as client:
        first = submit_caption(visitor)
        page.fill("#prompt input, #prompt textarea", "an orange")
        last = submit_caption(visitor)
        wait_until_cancelled(visitor, client, first)
        assert client.job(last).status() is State.QUEUED
    expect(page.locator("#caption-answer .waiting")).to_be_visible()
    visitor.close()
    assert visitor.errors == []


def test_a_text_grows_until_the_answer_replaces_it(browser: Browser, idle: Served) -> None:
    visitor = Visitor(browser, idle)
    page = visitor.sign_in()
    visitor.choose()
    job_id = submit_caption(visitor)
    growing = page.locator("#caption-answer .growing")
    with redis.Redis.from_url(idle.redis_url) as worker:
        for text in ("a <b>cat", "a <b>cat on a sofa"):
            worker.set(Keys().partial_text(job_id), text)
            expect(growing).to_have_text(text)
            expect(page.locator("#caption-answer .copy")).to_have_count(0)
        end_job(worker, job_id, {"text": "a <b>cat on a sofa."})
    assert visitor.answer() == "a <b>cat on a sofa."
    expect(growing).to_have_count(0)
    visitor.close()
    assert visitor.errors == []


def test_the_reply_of_a_dialogue_grows_and_another_image_hides_it(
    browser: Browser, idle: Served
) -> None:
    visitor = Visitor(browser, idle)
    page = visitor.sign_in()
    visitor.choose()
    visitor.tab("Chat")
    page.fill("#chat-question input, #chat-question textarea", "what is on the sofa?")
    job_id = submit_caption(visitor, "#do-chat")
    reply = page.locator("#dialogue .growing")
    with redis.Redis.from_url(idle.redis_url) as worker, Client(idle.redis_url) as client:
        worker.set(Keys().partial_text(job_id), "a black")
        expect(reply).to_have_text("a black")
        visitor.choose("scene-03.webp")
        expect(reply).to_be_hidden()
        wait_until_cancelled(visitor, client, job_id)
    visitor.close()
    assert visitor.errors == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_slow_network_removes_no_answer(visitor: Visitor, when: str) -> None:
    # Given a network that delays the request about a new image, or the response to it
    visitor.page.add_init_script(
        f"""{{ const fetchNow = window.fetch;
        window.fetch = async (url, options) => {{
            const slow = String(url).includes("/run/")
                && String(options?.body).includes("scene-02");
            const pause = () => new Promise(done => setTimeout(done, slow ? 1500 : 0));
            if ({json.dumps(when)} === "before") await pause();
            const response = await fetchNow(url, options);
            if ({json.dumps(when)} === "after") await pause();
            if (slow) document.title = "slow";
            return response; }}; }}"""
    )
    # When the image is captioned in the meantime
    page = visitor.sign_in()
    visitor.choose()
    page.click("#do-caption")
    assert visitor.answer() == CAPTION
    expect(page).to_have_title("slow")
    # Then the answer is still there half a second later
    page.wait_for_timeout(500)
    assert visitor.answer() == CAPTION


def test_an_answer_is_shown_only_with_its_image(visitor: Visitor) -> None:
    page = visitor.sign_in()
    answer = page.locator("#caption-answer .answer-text")
    visitor.choose()
    page.click("#do-caption")
    expect(answer).to_be_visible()
    visitor.choose("scene-03.webp")
    expect(answer).to_be_hidden()
    visitor.choose()
    expect(answer).to_have_text(CAPTION)
    visitor.choose("scene-03.webp")
    page.click("#do-caption")
    expect(answer).to_be_visible()
    page.fill("#url input, #url textarea", "http://example.com/a.png")
    expect(answer).to_be_hidden()
    page.fill("#url input, #url textarea", "")
    expect(answer).to_be_visible()
    page.get_by_text("Options").click()
    page.fill("#seed input, #seed textarea", "many")
    page.click("#do-caption")
    visitor.error_message()
    expect(answer).to_have_count(0)
