"""Answers about an image that is no longer chosen, in a browser."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests.page.visitor import CAPTION, Visitor


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
