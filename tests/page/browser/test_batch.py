"""Batches in a browser."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.page.visitor import CAPTION, IMAGES, Visitor


def download(page: Page, kind: str) -> str:
    """Return the content of a file that the page offers."""
    with page.expect_download() as download:
        page.get_by_role("link", name=kind, exact=True).click()
    return Path(download.value.path()).read_text(encoding="utf-8-sig")


def choose_files(visitor: Visitor, *paths: Path) -> Page:
    """Choose files in the batch tab in place of those of the test before."""
    visitor.tab("Batch")
    files = visitor.page.locator("#files tr.file")
    if files.count():
        visitor.page.locator("#files").get_by_label("Clear").click()
        expect(files).to_have_count(0)
    visitor.page.set_input_files("#files input[type=file]", paths)
    expect(files).to_have_count(len(paths))
    return visitor.page


def test_a_batch_ends_with_a_row_for_each_file_and_both_downloads(
    regular: Visitor, tmp_path: Path
) -> None:
    broken = tmp_path / "=broken.png"
    broken.write_bytes(b"not an image")
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    page = choose_files(regular, IMAGES / "scene-02.jpg", broken, IMAGES / "scene-03.webp", empty)
    page.click("#do-batch")
    expect(page.locator("#batch-progress .answer-details span").first).to_have_text(
        "Done: 4 of 4 · 2 failed"
    )
    rows = page.locator("#batch-results tbody tr")
    expect(rows).to_have_count(4)
    expect(rows.nth(0)).to_contain_text(CAPTION)
    expect(rows.nth(1)).to_contain_text("image_invalid")
    expect(rows.nth(3)).to_contain_text("is empty")
    lines = [json.loads(line) for line in download(page, "JSONL").splitlines()]
    assert [line["status"] for line in lines] == ["ok", "error", "ok", "error"]
    assert lines[0] == {"custom_id": "scene-02.jpg", "status": "ok", "text": CAPTION}
    assert lines[1]["error"]["code"] == "image_invalid"
    table = list(csv.DictReader(download(page, "CSV").splitlines()))
    assert [row["text"] for row in table] == [line.get("text", "") for line in lines]
    assert table[1]["custom_id"].startswith("'=")


def test_a_wrong_file_among_good_images_has_a_row_of_its_own(
    regular: Visitor, tmp_path: Path
) -> None:
    wrong = {"notes.txt": b"a note", "page.html": b"<html>", "nothing": b"", "clip.mp4": b"\0" * 99}
    for name, content in wrong.items():
        (tmp_path / name).write_bytes(content)
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(70 * 2**20)
    files = [*(tmp_path / name for name in wrong), tmp_path / "large.png", IMAGES / "scene-02.jpg"]
    page = choose_files(regular, *files)
    page.click("#do-batch")
    rows = page.locator("#batch-results tbody tr")
    expect(rows).to_have_count(6)
    expect(page.locator("#batch-results .error-text")).to_have_count(5)
    expect(rows.nth(4)).to_contain_text("image_too_large")
    expect(rows.nth(5)).to_contain_text(CAPTION)
    expect(page.get_by_test_id("toast-text")).to_have_count(0)


def test_a_batch_asks_the_same_question_about_all_images(regular: Visitor) -> None:
    page = choose_files(regular, IMAGES / "scene-02.jpg", IMAGES / "scene-03.webp")
    page.get_by_role("radio", name="Question").check()
    page.click("#do-batch")
    assert regular.error_message() == "Enter a question first."
    page.locator("#batch-question").get_by_role("textbox").fill("how many shapes are there?")
    page.click("#do-batch")
    expect(page.locator("#batch-results .answer-text")).to_have_text(["two", "one"])
