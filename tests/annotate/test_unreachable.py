"""A run without Redis: it leaves outputs as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, write_image

NOWHERE = ("--redis-url", "redis://127.0.0.1:1/0")
OUTPUTS = (
    *("x.jsonl", "x.csv", "x.tsv", "x.parquet", "x.tar", "x-%03d.tar"),
    *("p/metadata.jsonl", "meta_cap.json"),
)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_new_output_does_not_appear(tmp_path: Path, output: str) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    assert annotate("p", "-o", output, *NOWHERE) == Exit.NO_REDIS
    assert {path.name for path in tmp_path.rglob("*.*") if not path.name.startswith(".")} == {
        "a.png"
    }


@pytest.mark.parametrize("output", [name for name in OUTPUTS if "%" not in name])
def test_an_output_of_an_earlier_run_stays_as_it_is(
    responder: Responder, tmp_path: Path, output: str
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    assert annotate("p", "-o", output) == Exit.OK
    before = Path(output).read_bytes()
    for journal in tmp_path.rglob(".*.db*"):
        journal.unlink()
    write_image(tmp_path / "p" / "b.png", 2)
    options = ("--existing", "overwrite", *NOWHERE)
    assert annotate("p", "-o", output, *options) == Exit.NO_REDIS
    assert Path(output).read_bytes() == before


def test_the_error_names_what_starts_a_redis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "p" / "a.png", 1)
    assert annotate("p", *NOWHERE) == Exit.NO_REDIS
    err = capsys.readouterr().err
    for remedy in ("`make up` in a checkout", "`python -m worker`", "--local starts both"):
        assert remedy in err
