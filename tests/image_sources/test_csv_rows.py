"""One reader of tables for pictures and for outputs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from producer.image_sources.csv_rows import MAX_FIELD_CHARS
from producer.image_sources.options import SourceOptions
from producer.image_sources.output_rows import output_rows
from producer.image_sources.tables import table_pictures


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_both_readers_have_the_same_limit_of_fields(tmp_path: Path, suffix: str) -> None:
    separator = "," if suffix == "csv" else "\t"
    path = tmp_path / f"a.{suffix}"
    text = "x" * (1 << 18)
    path.write_text(f"file_name{separator}text\na.png{separator}{text}\n")
    for read in (output_rows(str(path)), table_pictures(str(path), SourceOptions())):
        csv.field_size_limit(131_072)
        assert len(list(read)) == 1
        assert csv.field_size_limit() == MAX_FIELD_CHARS
