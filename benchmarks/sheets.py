"""`python -m benchmarks.sheets`: a contact sheet of many pictures in Chromium.

Writes a sheet of the demo's pictures, opens it as a file, jumps through it and searches. Prints the
size of the page, the seconds until the first card and the maximum number of cards in the document.
The exit code is 1 if a search shows other images than those that have its words.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, sync_playwright

from benchmarks.pictures import pictures
from producer.cli.app import run

#: Distinct pictures, which repeat.
PICTURES: Final = 200
#: The word of a search, in the text of every hundredth image.
WORD, EVERY = "lighthouse", 100
JUMPS: Final = 20


def main() -> int:
    """Print a report; return the exit code."""
    parser = ArgumentParser(prog="python -m benchmarks.sheets", description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory(prefix="blipline-sheets-") as name:
        started = time.perf_counter()
        page = write_sheet(Path(name), images)
        written_s = time.perf_counter() - started
        print(f"{images:,} images, {page.stat().st_size / 1e6:.0f} MB, in {written_s:.0f} s")
        return open_sheet(page, images)


def write_sheet(folder: Path, images: int) -> Path:
    """Write pictures, a table of their texts and the sheet of it; return the sheet's path."""
    for number, data in enumerate(pictures(min(PICTURES, images), seed=1)):
        (folder / f"{number}.jpg").write_bytes(data)
    table, page = folder / "texts.jsonl", folder / "sheet.html"
    with table.open("w") as file:
        for number in range(images):
            text = f"picture {number}{f' of a {WORD}' if number % EVERY == 0 else ''}"
            row = {"file_name": f"{number % PICTURES}.jpg", "text": text, "custom_id": str(number)}
            file.write(f"{json.dumps(row)}\n")
    if run(["sheet", str(table), "--images", str(folder), "-o", str(page)]):
        raise RuntimeError("the sheet could not be written")
    return page


def open_sheet(path: Path, images: int) -> int:
    """Measure the page in Chromium; return the exit code."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium-headless-shell") or shutil.which("chromium"),
            args=["--no-sandbox"],
        )
        page = browser.new_page()
        started = time.perf_counter()
        page.goto(path.as_uri())
        page.locator("article").first.wait_for()
        print(f"first card after {time.perf_counter() - started:.1f} s")
        print(f"at most {most_cards(page)} cards in the document")
        expected = len(range(0, images, EVERY))
        shown, search_ms = search(page)
        print(f"search in {search_ms:.0f} ms: {shown} of {expected} images")
        browser.close()
    return int(shown != expected)


def most_cards(page: Page) -> int:
    """Jump through the page; return the maximum number of cards in the document."""
    counts = []
    for jump in range(JUMPS + 1):
        page.evaluate(f"scrollTo(0, document.body.scrollHeight * {jump / JUMPS})")
        page.wait_for_timeout(100)
        counts.append(page.locator("article").count())
    return max(counts)


def search(page: Page) -> tuple[int, float]:
    """Search for the word; return the number of images that the page states, and milliseconds."""
    milliseconds = page.evaluate(
        """word => {
            const field = document.getElementById("search");
            field.value = word;
            const started = performance.now();
            field.dispatchEvent(new Event("input"));
            return performance.now() - started;
        }""",
        WORD,
    )
    stated = page.locator("#count").inner_text()
    return int(stated.replace(",", "").split()[0]), float(milliseconds)


if __name__ == "__main__":
    sys.exit(main())
