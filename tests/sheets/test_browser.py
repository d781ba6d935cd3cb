"""Sheets in Chromium, opened as files: cards, search, filters, order, keys, differences."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.page.visitor import IMAGES, running_browser

#: More images than the page renders at once.
COUNT: Final = 1_250
NAMES: Final = ("scene-02.jpg", "scene-03.webp", "scene-04.png")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


class OpenPage:
    """A page that was opened from a file, with its errors and requests."""

    def __init__(self, context: BrowserContext, path: Path) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.locator("article").first.wait_for()

    def position(self) -> int:
        """Return the position of the focused card."""
        return int(self.page.evaluate("document.activeElement.dataset.position"))

    def external_requests(self) -> list[str]:
        """Return the URLs of requests other than for the file and for data."""
        return [url for url in self.requests[1:] if not url.startswith("data:")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a sheet and a comparison of two runs."""
    folder = tmp_path_factory.mktemp("sheets")
    first = [row(number, f"a red star number {number}") for number in range(COUNT)]
    first[3] = {"file_name": "scene-02.jpg", "error": {"message": "no <b>image</b>"}}
    first[4] = row(4, "<img src=x onerror=alert(1)> a blue circle")
    first[5] = {"file_name": "gone.jpg", "text": "a lost image"}
    second = [row(number, f"a red star number {number}") for number in range(4)]
    second[1]["text"] = "a green star number 1"
    write(folder / "first.jsonl", first)
    write(folder / "second.jsonl", [*second, {"file_name": "extra.jpg", "text": "new"}])
    return folder


def row(number: int, text: str) -> dict[str, Any]:
    return {"file_name": NAMES[number % 3], "text": text, "number": number}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    yield context
    context.close()


@pytest.fixture(scope="module")
def sheet_file(folder: Path) -> Path:
    path = folder / "sheet.html"
    command = ["sheet", str(folder / "first.jsonl"), "-o", str(path), "--images", str(IMAGES)]
    assert run(command) == Exit.OK
    return path


@pytest.fixture
def sheet(context: BrowserContext, sheet_file: Path) -> Iterator[OpenPage]:
    opened = OpenPage(context, sheet_file)
    yield opened
    opened.page.close()
    assert opened.errors == []
    assert opened.external_requests() == []


def test_only_the_images_near_the_window_are_rendered(sheet: OpenPage) -> None:
    expect(sheet.page.locator("#count")).to_have_text("1,250 of 1,250")
    assert 100 <= sheet.page.locator("article").count() < COUNT / 2
    assert sheet.page.locator("article img").first.evaluate("image => image.naturalWidth") == 96
    sheet.page.keyboard.press("End")
    sheet.page.keyboard.press("End")
    assert sheet.position() == COUNT - 1
    expect(sheet.page.locator("article:focus")).to_contain_text(f"number {COUNT - 1}")
    expect(sheet.page.locator("article", has_text="number 0").first).to_have_count(0)


def test_texts_are_shown_as_they_are(sheet: OpenPage) -> None:
    cards = sheet.page.locator("article")
    expect(cards.nth(3).locator(".error")).to_have_text("no <b>image</b>")
    expect(cards.nth(4)).to_contain_text("<img src=x onerror=alert(1)> a blue circle")
    expect(cards.nth(5).locator(".mat")).to_have_text("no file of this name")
    expect(sheet.page.locator("#facts dd")).to_have_text(["1,250", "1", "1,249", "5.0"])


def test_search_finds_all_words_and_marks_them(sheet: OpenPage) -> None:
    sheet.page.keyboard.press("/")
    sheet.page.keyboard.type("CIRCLE blue")
    expect(sheet.page.locator("#count")).to_have_text("1 of 1,250")
    expect(sheet.page.locator("article mark")).to_have_text(["blue", "circle"])
    sheet.page.keyboard.type(" zebra")
    expect(sheet.page.locator("#nothing")).to_be_visible()
    sheet.page.keyboard.press("Escape")
    expect(sheet.page.locator("#count")).to_have_text("1,250 of 1,250")


def test_filters_and_orders(sheet: OpenPage) -> None:
    sheet.page.select_option("#filter", "errors")
    expect(sheet.page.locator("article")).to_have_count(1)
    sheet.page.select_option("#filter", "text repeated")
    expect(sheet.page.locator("article")).to_have_count(0)
    sheet.page.select_option("#filter", "with text")
    sheet.page.select_option("#order", "longest text")
    expect(sheet.page.locator("article").first).to_contain_text("a blue circle")
    expect(sheet.page.locator("#count")).to_have_text("1,249 of 1,250")


def test_an_image_is_opened_and_left_by_the_keyboard_alone(sheet: OpenPage) -> None:
    page = sheet.page
    page.keyboard.press("ArrowRight")
    assert sheet.position() == 0
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    below = sheet.position()
    assert below > 7
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    detail = page.locator("#detail")
    expect(detail).to_contain_text(f"number {below - 1}")
    expect(detail.get_by_role("link", name="open the image")).to_have_attribute(
        "href", os.path.relpath(IMAGES / NAMES[(below - 1) % 3], page.url[7:].rpartition("/")[0])
    )
    page.keyboard.press("ArrowRight")
    page.keyboard.press("c")
    expect(page.locator("#copy")).to_have_text("Copied")
    page.keyboard.press("Escape")
    expect(detail).to_be_hidden()
    assert sheet.position() == below
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()


@pytest.mark.parametrize("width", [375, 1200])
def test_the_page_fits_the_window(sheet: OpenPage, width: int) -> None:
    sheet.page.set_viewport_size({"width": width, "height": 800})
    expect(sheet.page.locator("article").first).to_be_visible()
    assert sheet.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_images_can_be_links_beside_the_page(context: BrowserContext, folder: Path) -> None:
    path = folder / "links.html"
    command = ["sheet", str(folder / "second.jsonl"), "-o", str(path), "--images", str(IMAGES)]
    assert run([*command, "--thumbnails", "link"]) == Exit.OK
    opened = OpenPage(context, path)
    image = opened.page.locator("article img").first
    expect(image).to_have_js_property("naturalWidth", 96)
    expect(image).to_have_attribute("loading", "lazy")
    assert opened.errors == []
    assert {url.partition(":")[0] for url in opened.requests} <= {"file", "data"}
    opened.page.close()


def test_differences_of_two_runs_are_marked(context: BrowserContext, folder: Path) -> None:
    path = folder / "compare.html"
    outputs = [str(folder / "first.jsonl"), str(folder / "second.jsonl")]
    assert run(["compare", *outputs, "-o", str(path), "--images", str(IMAGES)]) == Exit.OK
    opened = OpenPage(context, path)
    page = opened.page
    page.select_option("#filter", "different")
    card = page.locator("article").first
    expect(card.locator("del").first).to_have_text("red")
    expect(card.locator("ins").first).to_have_text("green")
    expect(card.locator(".run")).to_have_text(["first.jsonl", "second.jsonl"])
    page.select_option("#filter", "only in second.jsonl")
    expect(page.locator("article")).to_have_count(1)
    expect(page.locator("article")).to_contain_text("not in this output")
    assert opened.errors == []
    assert opened.external_requests() == []
    page.close()
