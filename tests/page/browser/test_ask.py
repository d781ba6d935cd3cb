"""Captions, questions and matches in a browser, answered by a worker with the demo model."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.page.visitor import CAPTION, Visitor


def test_an_image_is_captioned_and_the_text_counted(regular: Visitor) -> None:
    page = regular.page
    regular.choose()
    page.click("#do-caption")
    assert regular.answer() == CAPTION
    details = page.locator("#caption-answer .answer-details")
    expect(details).to_contain_text("58 characters · 11 words")
    expect(details.locator("span").last).to_contain_text(" s")
    assert regular.served.jobs("acme")


def test_a_question_is_answered_by_the_keyboard_alone(regular: Visitor) -> None:
    page = regular.page
    regular.choose()
    page.get_by_role("tab", name="Describe").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("tab", name="Ask")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    for _ in range(3):
        # The remaining tabs.
        page.keyboard.press("Tab")
    expect(page.get_by_role("textbox", name="Question")).to_be_focused()
    page.keyboard.type("what color is the background?")
    page.keyboard.press("Enter")
    assert regular.answer("#ask-answer") == "brown"


def test_texts_are_compared_with_an_image(regular: Visitor) -> None:
    page = regular.page
    regular.choose()
    regular.tab("Match")
    page.fill("#texts textarea", f"a red square on a grey background\n\n{CAPTION}")
    page.click("#do-match")
    terms = page.locator("#match-answer .term")
    expect(terms).to_have_text([CAPTION, "a red square on a grey background"])
    assert float(page.locator("#match-answer .value").first.inner_text()) > 0.9


def test_a_caption_begins_with_the_prompt_and_options_limit_its_length(regular: Visitor) -> None:
    page = regular.page
    regular.choose()
    page.fill("#prompt input, #prompt textarea", "an orange")
    page.get_by_text("Options").click()
    page.fill("#max-new-tokens input", "3")
    page.click("#do-caption")
    # Not `answer`: that of another test, about the same image, is also shown.
    expect(page.locator("#caption-answer .answer-text")).to_have_text("an orange star above a")
