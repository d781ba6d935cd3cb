"""Error messages in a browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from producer import Client, Queue
from tests.page.visitor import IDLE_ROOM, Served, Visitor

URL = "#url input, #url textarea"
TEXT_UPLOADED = "Not an image but a text: send the image itself, or a URL that leads to it."
SEED = "#seed input, #seed textarea"


def test_an_invalid_input_is_reported_in_a_sentence(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.sign_in()
    page.click("#do-caption")
    assert visitor.error_message() == "Choose an image or enter its URL first."
    page.fill(URL, "http://example.com/a.png")
    page.click("#do-caption")
    assert visitor.error_message() == "The URL of an image must begin with https://."
    # The worker rejects this URL, and the gateway never requests it.
    page.fill(URL, "https://127.0.0.1:1/a.png")
    page.click("#do-caption")
    blocked = visitor.error_message()
    assert "127.0.0.1" in blocked
    assert "BLIPLINE_" not in blocked
    page.fill(URL, "")
    visitor.tab("Batch")
    page.click("#do-batch")
    assert visitor.error_message() == "Choose one or more images first."
    visitor.tab("Ask")
    text = tmp_path / "text.png"
    text.write_text("not an image")
    page.set_input_files("#image input[type=file]", text)
    # In place of the browser's icon of a broken image.
    preview = page.locator("#image img.no-preview")
    expect(preview).to_have_css("visibility", "hidden")
    page.click("#do-ask")
    assert visitor.error_message() == "Enter a question first."
    page.get_by_role("textbox", name="Question").fill("what is it?")
    page.click("#do-ask")
    assert visitor.error_message() == TEXT_UPLOADED


def test_a_file_that_is_too_large_is_rejected(visitor: Visitor, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(70 * 1024 * 1024)
    page = visitor.sign_in()
    page.set_input_files("#image input[type=file]", large)
    page.locator("#image img").wait_for(state="attached")
    page.click("#do-caption")
    assert "the upload limit is 67,108,864" in visitor.error_message()


def test_an_invalid_option_is_named_by_its_label(visitor: Visitor) -> None:
    page = visitor.sign_in()
    visitor.choose()
    page.get_by_text("Options").click()
    page.fill(SEED, "many")
    page.click("#do-caption")
    expected = "Seed = 'many': enter a number or leave the field empty."
    assert visitor.error_message() == expected
    page.fill(SEED, "")
    page.fill("#num-beams input", "99")
    page.click("#do-caption")
    assert visitor.error_message().startswith("Beams = 99: ")


def test_without_a_worker_the_job_times_out_and_the_header_shows_the_queue(
    browser: Browser, idle: Served
) -> None:
    visitor = Visitor(browser, idle)
    page = visitor.sign_in()
    visitor.choose()
    page.get_by_text("Options").click()
    page.fill("#deadline-s input, #deadline-s textarea", "0.1")
    page.click("#do-caption")
    expected = "No worker returned a result before the deadline"
    assert visitor.error_message().startswith(expected)
    with Client(idle.redis_url) as client:
        room = IDLE_ROOM - client.depth().items[Queue.INTERACTIVE]
        jobs = [client.caption("https://example.com/a.png") for _ in range(room)]
        expect(page.locator(".facts dd").first).to_have_text(str(IDLE_ROOM))
        page.click("#do-caption")
        assert visitor.error_message() == "The queue is full: try again later."
        for job in jobs:
            job.cancel()
    visitor.close()
    assert visitor.errors == []
