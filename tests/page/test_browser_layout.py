"""The layout in narrow and wide windows, light and dark."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.page.visitor import Served, Visitor


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_window_and_follows_the_color_scheme(
    browser: Browser, served: Served, width: int, scheme: str
) -> None:
    visitor = Visitor(
        browser, served, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    page = visitor.sign_in()
    visitor.choose()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(244, 244, 241)", "dark": "rgb(20, 21, 23)"}[scheme]
    for tab in ("Caption", "Ask", "Chat", "Match", "Batch"):
        visitor.tab(tab)
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        expect(page.locator("#batch-images").first).to_be_visible(visible=tab == "Batch")
        expect(page.locator("#single-image").first).to_be_visible(visible=tab != "Batch")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
    visitor.close()
    assert visitor.errors == []
    assert visitor.external_requests == []
