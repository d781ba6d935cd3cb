"""The screenshots of docs/page.md; `python -m tests.page.screenshots` updates them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import expect

from tests.page.visitor import IMAGES, Visitor, running_browser, serving

DIRECTORY: Final = Path(__file__).parents[2] / "docs" / "images"
SIZE: Final = (1280, 720)
#: Enough for text on flat colors, at a third of the size.
COLORS: Final = 200


def main() -> None:
    """Update all screenshots."""
    with serving() as served, running_browser() as browser:
        for name, prepare in SCREENSHOTS.items():
            visitor = Visitor(browser, served, size=SIZE)
            visitor.sign_in()
            prepare(visitor)
            _save(visitor, DIRECTORY / f"page-{name}.png")
            visitor.close()


def _caption(visitor: Visitor) -> None:
    visitor.choose("scene-10.jpg")
    visitor.page.click("#do-caption")
    visitor.page.locator("#caption-answer .answer-text").wait_for()
    visitor.page.get_by_text("Options").click()
    visitor.page.locator("#seed").wait_for()


def _describe(visitor: Visitor) -> None:
    visitor.choose("scene-13.jpg")
    visitor.tab("Describe")
    visitor.page.click("#do-describe")
    visitor.answer("#describe-answer")
    visitor.page.locator("#describe-answer summary").click()


def _chat(visitor: Visitor) -> None:
    page = visitor.page
    visitor.choose("scene-02.jpg")
    visitor.tab("Chat")
    questions = ("how many shapes are there?", "what is on top?", "what is on the left?")
    for turn, question in enumerate(questions):
        page.fill("#chat-question input, #chat-question textarea", question)
        page.click("#do-chat")
        expect(page.locator("#dialogue .dialogue-answer")).to_have_count(turn + 1)


def _batch(visitor: Visitor) -> None:
    page = visitor.page
    visitor.tab("Batch")
    with tempfile.TemporaryDirectory() as directory:
        broken = Path(directory, "notes.png")
        broken.write_text("not an image", encoding="utf-8")
        names = ("scene-05.jpg", "scene-08.jpg", "scene-12.jpg")
        page.set_input_files(
            "#files input[type=file]", [*(IMAGES / name for name in names), broken]
        )
        expect(page.locator("#files tr.file")).to_have_count(4)
    page.click("#do-batch")
    expect(page.locator("#batch-results tbody tr")).to_have_count(4)
    for image in page.locator("#batch-results img").all():
        # Images load lazily.
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
    page.locator(".head").scroll_into_view_if_needed()


SCREENSHOTS: Final[dict[str, Callable[[Visitor], None]]] = {
    "caption": _caption,
    "describe": _describe,
    "chat": _chat,
    "batch": _batch,
}


def _save(visitor: Visitor, path: Path) -> None:
    # Without hover effects and a text cursor.
    visitor.page.mouse.move(0, 0)
    visitor.page.evaluate("document.activeElement.blur()")
    shot = visitor.page.screenshot(full_page=True, animations="disabled")
    with Image.open(io.BytesIO(shot)) as image:
        image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
