"""Error messages in a browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.page.visitor import Visitor

URL = "#url input, #url textarea"
TEXT_UPLOADED = "Not an image but a text: send the image itself, or a URL that leads to it."
SEED = "#seed input, #seed textarea"


def test_an_invalid_input_is_reported_in_a_sentence(regular: Visitor, tmp_path: Path) -> None:
    page = regular.page
    page.click("#do-caption")
    assert regular.error_message() == "Choose an image or enter its URL first."
    page.fill(URL, "http://example.com/a.png")
    page.click("#do-caption")
    assert regular.error_message() == "The URL of an image must begin with https://."
    # The worker rejects this URL, and the gateway never requests it.
    page.fill(URL, "https://127.0.0.1:1/a.png")
    page.click("#do-caption")
    blocked = regular.error_message()
    assert "127.0.0.1" in blocked
    assert "BLIPLINE_" not in blocked
    page.fill(URL, "")
    regular.tab("Batch")
    page.click("#do-batch")
    assert regular.error_message() == "Choose one or more images first."
    regular.tab("Ask")
    text = tmp_path / "text.png"
    text.write_text("not an image")
    page.set_input_files("#image input[type=file]", text)
    # In place of the browser's icon of a broken image.
    preview = page.locator("#image img.no-preview")
    expect(preview).to_have_css("visibility", "hidden")
    page.click("#do-ask")
    assert regular.error_message() == "Enter a question first."
    page.get_by_role("textbox", name="Question").fill("what is it?")
    page.click("#do-ask")
    assert regular.error_message() == TEXT_UPLOADED


def test_a_file_that_is_too_large_is_rejected(regular: Visitor, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(70 * 1024 * 1024)
    page = regular.page
    page.set_input_files("#image input[type=file]", large)
    page.locator("#image img").wait_for(state="attached")
    page.click("#do-caption")
    assert "the upload limit is 67,108,864" in regular.error_message()


def test_an_invalid_option_is_named_by_its_label(regular: Visitor) -> None:
    page = regular.page
    regular.choose()
    page.get_by_text("Options").click()
    page.fill(SEED, "many")
    page.click("#do-caption")
    expected = "Seed = 'many': enter a number or leave the field empty."
    assert regular.error_message() == expected
    page.fill(SEED, "")
    page.fill("#num-beams input", "99")
    page.click("#do-caption")
    assert regular.error_message().startswith("Beams = 99: ")
