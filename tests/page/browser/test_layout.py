"""The layout in narrow and wide windows, light and dark."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page.visitor import IMAGES, Served, Visitor

#: JavaScript that returns the visible elements for a finger that are smaller than 24 pixels. A link
#: in a sentence and an input inside its label may be smaller.
SMALL = """() => [...document.querySelectorAll("button, a, summary, [role=tab], label:has(input)")]
    .filter(element => element.checkVisibility({visibilityProperty: true}))
    .map(element => [element, element.getBoundingClientRect()])
    .filter(([element, box]) => box.height > 1 && Math.min(box.width, box.height) < 24)
    .map(([element, box]) => `${element.outerHTML.slice(0, 80)} ${box.width} x ${box.height}`)"""


def assert_no_small_target(page: Page) -> None:
    """Check the targets once the layout is complete."""
    for _ in range(20):
        if not page.evaluate(SMALL):
            break
        page.wait_for_timeout(100)
    assert page.evaluate(SMALL) == []


@pytest.mark.parametrize(
    "windows",
    [
        [(375, "light"), (768, "dark")],
        pytest.param([(390, "dark"), (1280, "light")], marks=pytest.mark.exhaustive),
    ],
)
def test_the_page_fits_the_window_and_follows_the_color_scheme(
    browser: Browser, served: Served, windows: list[tuple[int, Literal["light", "dark"]]]
) -> None:
    visitor = Visitor(browser, served, size=(windows[0][0], 800), scheme=windows[0][1])
    page = visitor.sign_in()
    visitor.choose()
    page.get_by_text("Options").click()
    page.set_input_files("#files input[type=file]", [IMAGES / "scene-02.jpg"])
    for width, scheme in windows:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert_layout(visitor, scheme)
    visitor.close()
    assert visitor.errors == []
    assert visitor.external_requests == []


def assert_layout(visitor: Visitor, scheme: Literal["light", "dark"]) -> None:
    """Check every tab, and a batch with its results."""
    page = visitor.page
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(244, 244, 241)", "dark": "rgb(20, 21, 23)"}[scheme]
    for tab in ("Caption", "Describe", "Ask", "Chat", "Match", "Batch"):
        visitor.tab(tab)
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        expect(page.locator("#batch-images").first).to_be_visible(visible=tab == "Batch")
        expect(page.locator("#single-image").first).to_be_visible(visible=tab != "Batch")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
        assert_no_small_target(page)
    page.click("#do-batch")
    expect(page.locator("#batch-results tbody tr")).to_have_count(1)
    assert_no_small_target(page)
    expect(page.get_by_label("More tabs")).to_be_hidden()


def tap(visitor: Visitor, selector: str) -> None:
    """Tap an element; `page.tap` needs a context of its own, which compiles all scripts."""
    box = visitor.page.locator(selector).bounding_box()
    assert box is not None
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    session = visitor.context.new_cdp_session(visitor.page)
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_button_and_answer_are_on_the_screen_of_a_phone_without_scrolling(
    browser: Browser, served: Served
) -> None:
    visitor = Visitor(browser, served, size=(390, 844))
    page = visitor.sign_in()
    visitor.choose()
    tap(visitor, "#do-caption")
    visitor.answer()
    for width, height in [(390, 844), (375, 667)]:
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("scrollY") == 0
        expect(page.locator("#do-caption")).to_be_in_viewport(ratio=1)
        expect(page.locator("#caption-answer .answer-text")).to_be_in_viewport(ratio=1)
    visitor.close()
