"""Every output of annotate as a contact sheet."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.annotate.sample_collections import annotate, write_image


def parts_of(page: Path, attribute: str) -> list[Any]:
    """Return the JSON parts of a page that have this attribute."""
    element = rf'<script type="application/json" {attribute}>(.*?)</script>'
    return [json.loads(part) for part in re.findall(element, page.read_text())]


@pytest.mark.usefixtures("responder")
@pytest.mark.parametrize("output", ["x.jsonl", "x.csv", "x.parquet", "x.tar", "metadata.jsonl", ""])
def test_the_sheet_of_an_output_has_each_image_with_its_caption(
    tmp_path: Path, output: str
) -> None:
    names = ["a.ppm", "b c.ppm", "sub/ü.ppm"]
    texts = {name: write_image(tmp_path / "photos" / name, len(name)) for name in names}
    target = Path("photos", output)
    assert annotate("photos", *(["-o", str(target)] if output else [])) == Exit.OK
    assert run(["sheet", str(target), "--images", "photos", "-o", "page.html"]) == Exit.OK
    ((data,), (thumbnails,)) = (
        parts_of(Path("page.html"), attribute) for attribute in ('id="data"', 'class="thumbnails"')
    )
    assert {entry["n"]: entry["t"] for entry in data["entries"]} == texts
    assert [url[:11] for url in thumbnails] == ["data:image/"] * len(names)
