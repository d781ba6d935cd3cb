"""The page contains its data, and no data can become a part of its code."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from typing import Any

from producer.sheets.entry import SheetEntry
from producer.sheets.page import CHUNK, SheetData, write_page


def page_of(entries: list[SheetEntry], thumbnails: list[str] | None = None) -> str:
    file = io.BytesIO()
    data = SheetData.of_output("a <title>", entries, [None] * len(entries))
    write_page(file, data, thumbnails)
    return file.getvalue().decode()


def json_of(page: str, attribute: str) -> list[Any]:
    pattern = rf'<script type="application/json" {attribute}>(.*?)</script>'
    return [json.loads(text) for text in re.findall(pattern, page, re.DOTALL)]


def test_no_text_ends_its_script_element() -> None:
    text = "</script><script>alert(1)</script><!-- \u2028 & \udcff"
    page = page_of([SheetEntry(text, None, text, fields={"<b>": text})])
    (data,) = json_of(page, 'id="data"')
    assert data["entries"] == [{"n": text, "t": text, "f": {"<b>": text}}]
    assert "alert(1)</script>" not in page
    assert "a &lt;title&gt;" in page


def test_thumbnails_are_in_chunks_in_order() -> None:
    count = 2 * CHUNK + 1
    page = page_of(
        [SheetEntry(str(n), None, "") for n in range(count)], [f"data:{n}" for n in range(count)]
    )
    chunks = json_of(page, 'class="thumbnails"')
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 1]
    assert [url for chunk in chunks for url in chunk] == [f"data:{n}" for n in range(count)]


def test_the_policy_allows_the_style_and_the_script_of_the_page_alone() -> None:
    page = page_of([SheetEntry("a", None, "")], ["data:,"])
    policy = re.search(r'Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "img-src data:;" in policy[1]
    for element in ("style", "script"):
        (code,) = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{element}-src &#x27;sha256-{digest}&#x27;" in policy[1]
