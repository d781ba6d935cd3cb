"""Parquet columns of other programs: their types and values stay."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from producer.annotate.outputs.kept_types import typed
from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, write_image

NANOSECONDS = arrow.array([1_700_000_000_123_456_789, None, 5], arrow.timestamp("ns"))
TIME = datetime.datetime(2024, 1, 2, 3, 4, 5, 678)
COLUMNS: dict[str, Any] = {
    "time": arrow.array([TIME, None, TIME], arrow.timestamp("us")),
    "zone": arrow.array([TIME, None, TIME], arrow.timestamp("us", "UTC")),
    "nanoseconds": NANOSECONDS,
    "day": arrow.array([TIME.date(), None, None], arrow.date32()),
    "decimal": arrow.array([decimal.Decimal("1.20"), None, None]),
    "small": arrow.array([1, None, 3], arrow.int8()),
    "large": arrow.array([2**64 - 1, None, 1], arrow.uint64()),
    "float": arrow.array([0.1, None, float("inf")], arrow.float32()),
    "embedding": arrow.array([[0.1, 0.2], None, []], arrow.list_(arrow.float32())),
    "vector": arrow.array([[0.1, 0.2], None, [1, 2]], arrow.list_(arrow.float32(), 2)),
    "object": arrow.array([{"k": 1, "l": ["q"]}, None, {"k": None, "l": None}]),
    "category": arrow.array(["q", "r", None]).dictionary_encode(),
    "empty": arrow.nulls(3),
    "text_64": arrow.array(["s", None, "t"], arrow.large_string()),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_of_another_program_keeps_its_type_and_its_values(
    responder: Responder, tmp_path: Path, texts: dict[str, str], column: str
) -> None:
    assert annotate("p", "-o", "t.parquet") == Exit.OK
    table = parquet.read_table("t.parquet").append_column(column, COLUMNS[column])
    parquet.write_table(table.replace_schema_metadata({"huggingface": "features"}), "t.parquet")
    write_image(tmp_path / "p" / "d.ppm", 9)
    for _ in range(2):
        assert annotate("p", "-o", "t.parquet") == Exit.OK
        written = parquet.read_table("t.parquet")
        assert written.schema.field(column).type == COLUMNS[column].type
        assert written[column].combine_chunks().slice(0, 3).equals(COLUMNS[column])
        assert written.schema.metadata == {b"huggingface": b"features"}
        assert written["text"].to_pylist()[:3] == list(texts.values())


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (arrow.int8(), 300),
        (arrow.int64(), 1.0),
        (arrow.int64(), "5"),
        (arrow.float32(), 0.1),
        (arrow.bool_(), 1),
        (arrow.string(), 5),
        (arrow.timestamp("s"), "2024-01-02 03:04:05.5"),
        (arrow.timestamp("s"), "yesterday"),
        (arrow.null(), "x"),
        (arrow.list_(arrow.string()), "x"),
    ],
)
def test_a_value_that_a_type_does_not_hold_is_not_changed(kind: Any, value: Any) -> None:
    assert typed(kind, [value]) is None


def test_times_that_python_does_not_have_are_read_without_pandas(
    texts: dict[str, str], tmp_path: Path
) -> None:
    for number, column in enumerate(
        (
            NANOSECONDS,
            NANOSECONDS.cast(arrow.int64()).cast(arrow.duration("ns")),
            arrow.array([1, None, 2], arrow.time64("ns")),
            arrow.array([10**14, None, 0], arrow.timestamp("s")),
            arrow.array([10**9, None, 0], arrow.date32()),
        )
    ):
        table = arrow.table({"image": [f"p/{name}" for name in texts], "time": column})
        parquet.write_table(table, f"s{number}.parquet")
    code = (
        "import sys\n"
        "class NoPandas:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'pandas': raise ImportError(name)\n"
        "sys.meta_path.insert(0, NoPandas())\n"
        "from producer.image_sources.arguments import pictures\n"
        "from producer.image_sources.options import SourceOptions\n"
        "for path in sys.argv[1:]:\n"
        "    print([picture.columns['time'] for picture in pictures([path], SourceOptions())])\n"
    )
    paths = sorted(map(str, tmp_path.glob("s*.parquet")))
    result = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True
    )
    lines = result.stdout.splitlines()
    assert lines[0] == "['2023-11-14 22:13:20.123456789', None, '1970-01-01 00:00:00.000000005']"
    assert lines[1] == "[1700000000123456789, None, 5]"
    assert lines[2] == "[1, None, 2]"
    assert len(lines) == 5
