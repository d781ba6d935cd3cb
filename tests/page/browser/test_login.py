"""Login in a browser."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.page.visitor import Visitor


def test_an_invalid_key_opens_nothing_and_a_valid_key_opens_the_page(visitor: Visitor) -> None:
    page = visitor.page
    page.goto(visitor.served.url)
    for invalid in ("nonsense", "blip_000000000000_" + "0" * 48):
        page.fill("#key", invalid)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("This API key is unknown or was revoked.")
        assert invalid not in page.content()
    # Chromium itself logs each 401.
    assert all("401" in error for error in visitor.errors)
    visitor.errors.clear()
    page.fill("#key", visitor.served.keys["acme"])
    page.press("#key", "Enter")
    page.wait_for_selector("#do-caption")
    assert visitor.errors == []
    page.get_by_role("button", name="acme: sign out").click()
    page.wait_for_selector("#key")
    # Gradio logs an error when a page is left while its stream is open.
    visitor.errors.clear()
    page.goto(visitor.served.url)
    page.wait_for_selector("#key")


def test_the_end_of_a_session_leads_to_the_login_form(visitor: Visitor) -> None:
    page = visitor.sign_in()
    visitor.context.clear_cookies()
    page.wait_for_selector("#key")
    # Chromium itself logs the 401.
    visitor.errors.clear()
