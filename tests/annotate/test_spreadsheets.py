"""Tables that Excel saved: semicolons, byte order mark, and lines that end with CRLF."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, write_image
from tests.annotate.table_rows import read_list

MARK = b"\xef\xbb\xbf"
EDITED = 'er sagte "hallo"; süß, ok\nzweite Zeile'


@pytest.mark.parametrize("delimiter", [";", ","])
@pytest.mark.parametrize("mark", [MARK, b""])
def test_a_table_that_a_spreadsheet_saved_keeps_its_style_and_its_edits(
    responder: Responder, tmp_path: Path, texts: dict[str, str], delimiter: str, mark: bytes
) -> None:
    assert annotate("p", "-o", "t.csv") == Exit.OK
    rows = read_list("t.csv")
    rows[0] |= {"text": EDITED, "Größe": "3,5"}
    save("t.csv", rows, delimiter, mark)
    added = write_image(tmp_path / "p" / "d.ppm", 9)
    for _ in range(2):
        assert annotate("p", "-o", "t.csv") == Exit.OK
        data = Path("t.csv").read_bytes()
        assert data.startswith(mark or b"file_name")
        rows = read("t.csv", delimiter)
        assert [row["text"] for row in rows] == [EDITED, *list(texts.values())[1:], added]
        assert rows[0]["Größe"] == "3,5"
    assert responder.answers == 4


@pytest.mark.parametrize("mark", [MARK, b""])
def test_a_table_with_semicolons_is_a_source(
    responder: Responder, texts: dict[str, str], mark: bytes
) -> None:
    rows = [{"image": f"p/{name}", "Größe": "3,5"} for name in texts]
    save("s.csv", rows, ";", mark)
    assert annotate("s.csv", "-o", "t.csv") == Exit.OK
    assert [row["text"] for row in read_list("t.csv")] == list(texts.values())
    assert [row["Größe"] for row in read_list("t.csv")] == ["3,5"] * 3


def read(path: str, delimiter: str) -> list[dict[str, str]]:
    """Return the rows of a table, as a spreadsheet reads them."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def save(path: str, rows: list[dict[str, str]], delimiter: str, mark: bytes) -> None:
    """Write a table as a spreadsheet does."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    Path(path).write_bytes(mark + text.getvalue().encode())
