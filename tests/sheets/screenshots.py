"""The screenshots of docs/sheets.md; `python -m tests.sheets.screenshots` updates them."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import ViewportSize

from demo.stack import running_redis, running_worker
from producer.cli.app import run
from tests.page.screenshots import COLORS, DIRECTORY
from tests.page.visitor import IMAGES, running_browser

VIEWPORT: Final = ViewportSize(width=1280, height=720)
SAMPLED: Final = ("--temperature", "2.1", "--seed", "5")


def main() -> None:
    """Caption the demo images twice, and update all screenshots."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        items = [{"image": str(path)} for path in sorted(IMAGES.glob("scene-*"))]
        Path("items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        with running_redis() as url, running_worker(url, quiet=True):
            os.environ["BLIPLINE_REDIS_URL"] = url
            for name, options in (("greedy", ()), ("sampled", SAMPLED)):
                command = ["batch", "submit", "items.jsonl", "--wait", *options]
                run([*command, "-o", f"{name}.jsonl"])
        with_items = ("--items", "items.jsonl", "-o")
        run(["sheet", "greedy.jsonl", "--title", "Demo images", *with_items, "sheet.html"])
        run(["compare", "greedy.jsonl", "sampled.jsonl", *with_items, "compare.html"])
        with running_browser() as browser:
            for name in ("sheet", "compare"):
                page = browser.new_page(viewport=VIEWPORT, color_scheme="light")
                page.goto(Path(f"{name}.html").absolute().as_uri())
                page.locator("article img").first.wait_for()
                page.wait_for_function("[...document.images].every(image => image.complete)")
                picture = Image.open(io.BytesIO(page.screenshot()))
                picture.quantize(COLORS).save(DIRECTORY / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
