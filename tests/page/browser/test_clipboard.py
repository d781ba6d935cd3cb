"""Images that are pasted or dropped, and texts that are copied, in a browser."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Final

from playwright.sync_api import Browser, JSHandle, Page, expect

from tests.page.visitor import IMAGES, PLAIN_HOST, Served, Visitor

#: JavaScript that decodes an image from base64.
DECODE: Final = "const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));"
PASTED: Final = "an orange star above a black circle on a pink background"
PROMPT: Final = "#prompt input, #prompt textarea"
#: Elements that have the focus when an image is pasted.
FOCUSED: Final = {
    "nothing": "body",
    "a button": "#do-caption",
    "a text field": PROMPT,
    "the URL": "#url input, #url textarea",
}


def scene() -> str:
    """Return an image in base64."""
    return base64.b64encode((IMAGES / "scene-01.png").read_bytes()).decode()


def copy_image(visitor: Visitor) -> None:
    """Put an image on the clipboard; if the page is no secure context, from another page."""
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visitor.page
    if PLAIN_HOST in visitor.served.address:
        page = visitor.context.new_page()
        page.goto(f"{visitor.served.address.replace(PLAIN_HOST, '127.0.0.1')}/ui/login")
    page.evaluate(
        f"""async data => {{ {DECODE}
            const image = new Blob([bytes], {{type: "image/png"}});
            await navigator.clipboard.write([new ClipboardItem({{"image/png": image}})]); }}""",
        scene(),
    )
    if page != visitor.page:
        page.close()
        visitor.page.bring_to_front()


def files_of(page: Page) -> JSHandle:
    """Return the files of a drop."""
    return page.evaluate_handle(
        f"""data => {{ {DECODE}
            const files = new DataTransfer();
            files.items.add(new File([bytes], "a.png", {{type: "image/png"}}));
            return files; }}""",
        scene(),
    )


def test_an_image_is_pasted_by_the_keyboard_wherever_the_focus_is(regular: Visitor) -> None:
    page = regular.page
    copy_image(regular)
    for selector in FOCUSED.values():
        page.focus(selector)
        page.keyboard.press("ControlOrMeta+v")
        page.locator("#image img").wait_for()
        page.get_by_label("Remove Image").click()
        page.locator("#image img").wait_for(state="detached")


def test_a_pasted_image_replaces_image_and_url_and_its_caption_can_be_copied(
    regular: Visitor,
) -> None:
    page = regular.page
    copy_image(regular)
    regular.choose()
    page.fill(FOCUSED["the URL"], "https://example.com/a.png")
    page.focus("#do-caption")
    page.keyboard.press("ControlOrMeta+v")
    expect(page.locator(FOCUSED["the URL"])).to_have_value("")
    page.click("#do-caption")
    assert regular.answer() == PASTED
    page.click("#caption-answer .copy")
    expect(page.locator("#caption-answer .copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == PASTED


def test_a_pasted_text_stays_in_its_field(regular: Visitor) -> None:
    regular.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = regular.page
    regular.remove_image()
    page.evaluate("navigator.clipboard.writeText('an orange')")
    page.focus(PROMPT)
    page.keyboard.press("ControlOrMeta+v")
    expect(page.locator(PROMPT)).to_have_value("an orange")
    expect(page.locator("#image img")).to_have_count(0)


def test_an_image_pasted_in_the_batch_tab_joins_the_batch(regular: Visitor) -> None:
    page = regular.page
    copy_image(regular)
    regular.tab("Batch")
    page.keyboard.press("ControlOrMeta+v")
    expect(page.locator("#files tr.file")).to_have_count(1)


def test_the_clipboard_works_without_https(browser: Browser, served: Served) -> None:
    address = served.address.replace("127.0.0.1", PLAIN_HOST)
    visitor = Visitor(browser, replace(served, address=address))
    page = visitor.sign_in()
    assert page.evaluate("isSecureContext") is False
    copy_image(visitor)
    page.keyboard.press("ControlOrMeta+v")
    page.locator("#image img").wait_for()
    page.click("#do-caption")
    assert visitor.answer() == PASTED
    page.click("#caption-answer .copy")
    expect(page.locator("#caption-answer .copy")).to_have_text("Copied")
    page.focus(PROMPT)
    page.keyboard.press("ControlOrMeta+v")
    expect(page.locator(PROMPT)).to_have_value(PASTED)
    visitor.close()
    assert visitor.errors == []


def test_the_button_beside_an_image_pastes_and_a_dropped_image_is_chosen(regular: Visitor) -> None:
    page = regular.page
    copy_image(regular)
    page.get_by_label("Paste from clipboard").click()
    page.locator("#image img").wait_for()
    page.get_by_label("Remove Image").click()
    page.locator("#image button.upload-container").dispatch_event(
        "drop", {"dataTransfer": files_of(page)}
    )
    page.locator("#image img").wait_for()
