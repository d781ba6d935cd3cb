"""Descriptions in a browser, by a worker with the demo models."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.page.visitor import CAPTION, Visitor

TEXT = f"{CAPTION.capitalize()}."


def test_an_image_is_described_with_statistics_and_closed_candidates(regular: Visitor) -> None:
    page = regular.page
    regular.choose()
    regular.tab("Describe")
    page.get_by_label("High: 3 rounds").check()
    page.click("#do-describe")
    assert regular.answer("#describe-answer") == TEXT
    expect(page.locator("#describe-answer .answer-details").first).to_contain_text(
        "59 characters · 11 words · 2 rounds"
    )
    expect(page.locator("#describe-answer .copy")).to_be_visible()
    candidates = page.locator("#describe-answer .candidates li")
    expect(candidates.first).to_be_hidden()
    page.get_by_text("candidates, ranked by image-text matching").click()
    expect(candidates.first).to_be_visible()
    used = page.locator("#describe-answer .candidates li.used .term")
    expect(used.first).to_have_text(TEXT)


def test_prompts_are_lines_and_too_many_are_an_error(regular: Visitor) -> None:
    page = regular.page
    regular.choose()
    regular.tab("Describe")
    page.get_by_label("Low: 1 round").check()
    page.fill("#prompts textarea", "an orange\n\na yellow circle")
    page.click("#do-describe")
    # Not `answer`: that of the test before, about the same image, is also shown.
    expect(page.locator("#describe-answer")).to_contain_text("2 candidates")
    assert regular.answer("#describe-answer").startswith("An orange star")
    page.get_by_text("2 candidates").click()
    details = page.locator("#describe-answer .candidates .answer-details")
    expect(details.first).to_contain_text("Round 1 · prompt: an orange")
    page.fill("#prompts textarea", "a\n" * 17)
    page.click("#do-describe")
    assert "at most 16 prompts, not 17" in regular.error_message()
