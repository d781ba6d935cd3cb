"""Hostile tables and lists: repeated columns, byte order marks, lines that are no objects."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from producer.errors import InvalidInput
from producer.image_sources.arguments import pictures
from producer.image_sources.options import SourceOptions
from producer.image_sources.picture import Picture


@pytest.fixture(autouse=True)
def working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start in an empty folder."""
    monkeypatch.chdir(tmp_path)


def read(name: str, has_texts: bool = False) -> list[Picture]:
    return list(pictures([name], SourceOptions(has_texts=has_texts)))


@pytest.mark.parametrize("has_texts", [False, True])
@pytest.mark.parametrize("column", ["image", "text", "more"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_table_with_two_columns_of_one_name_is_refused_by_name(
    suffix: str, column: str, has_texts: bool
) -> None:
    names = ["image", "text", "more", column]
    if suffix == "parquet":
        table = arrow.Table.from_arrays([arrow.array(["a.png"])] * 4, names=names)
        parquet.write_table(table, "in.parquet")
    else:
        separator = "\t" if suffix == "tsv" else ","
        Path(f"in.{suffix}").write_text(separator.join(names) + "\n")
    with pytest.raises(InvalidInput, match=rf"in\.{suffix}: two columns are named '{column}'"):
        read(f"in.{suffix}", has_texts)


def test_columns_without_a_name_may_repeat() -> None:
    Path("in.csv").write_text("image,text,,\na.png,b,,\n")
    assert [picture.name for picture in read("in.csv")] == ["a.png"]


@pytest.mark.parametrize("has_texts", [False, True])
def test_a_long_cell_is_read_with_and_without_texts(has_texts: bool) -> None:
    previous = csv.field_size_limit(131_072)
    try:
        Path("in.csv").write_text(f"image,text\na.png,{'x' * 200_000}\nb.png,y\n")
        assert [len(picture.caption or "") for picture in read("in.csv", has_texts)] == [200_000, 1]
    finally:
        csv.field_size_limit(previous)
