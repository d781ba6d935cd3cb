"""The pictures of docs/page.md: `python -m tests.page.screenshots` makes them anew."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import expect

from tests.page.visitor import IMAGES, Visitor, running_browser, serving

PLACE: Final = Path(__file__).parents[2] / "docs" / "images"
VIEWPORT: Final = {"width": 1280, "height": 720}
#: Enough for text on flat colors, and a third of the bytes.
COLORS: Final = 200


def main() -> None:
    """Make all of them."""
    with serving(worker=True) as served, running_browser() as browser:
        for name, show in SHOWN.items():
            visitor = Visitor(browser, served, viewport=VIEWPORT, color_scheme="light")
            visitor.sign_in()
            show(visitor)
            _take(visitor, PLACE / f"page-{name}.png")
            visitor.close()


def _caption(visitor: Visitor) -> None:
    visitor.choose("scene-10.jpg")
    visitor.page.click("#do-caption")
    visitor.page.locator("#caption-answer .said").wait_for()
    visitor.page.get_by_text("Options").click()
    visitor.page.locator("#seed").wait_for()


def _chat(visitor: Visitor) -> None:
    page = visitor.page
    visitor.choose("scene-02.jpg")
    visitor.tab("Chat")
    questions = ("how many shapes are there?", "what is on top?", "what is on the left?")
    for turn, question in enumerate(questions):
        page.fill("#chat-question input, #chat-question textarea", question)
        page.click("#do-chat")
        expect(page.locator("#dialogue .replied")).to_have_count(turn + 1)


def _batch(visitor: Visitor) -> None:
    page = visitor.page
    visitor.tab("Batch")
    with tempfile.TemporaryDirectory() as place:
        broken = Path(place, "notes.png")
        broken.write_text("not a picture", encoding="utf-8")
        names = ("scene-05.jpg", "scene-08.jpg", "scene-12.jpg")
        page.set_input_files(
            "#files input[type=file]", [*(IMAGES / name for name in names), broken]
        )
        expect(page.locator("#files tr.file")).to_have_count(4)
    page.click("#do-batch")
    expect(page.locator("#batch-results tbody tr")).to_have_count(4)
    for picture in page.locator("#batch-results img").all():
        # They are loaded when they are looked at.
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
    page.locator(".head").scroll_into_view_if_needed()


SHOWN: Final[dict[str, Callable[[Visitor], None]]] = {
    "caption": _caption,
    "chat": _chat,
    "batch": _batch,
}


def _take(visitor: Visitor, path: Path) -> None:
    # Nothing is pointed at, or about to be typed.
    visitor.page.mouse.move(0, 0)
    visitor.page.evaluate("document.activeElement.blur()")
    shot = visitor.page.screenshot(full_page=True, animations="disabled")
    with Image.open(io.BytesIO(shot)) as image:
        image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
