"""Archives that people and other programs change between runs: no sample is lost without a copy."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, write_image


def test_an_archive_that_another_program_changed_is_copied_before_it_is_written_anew(
    responder: Responder,
    tmp_path: Path,
    texts: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert annotate("p", "-o", "t.tar") == Exit.OK
    rewrite(tmp_path / "t.tar", b"by hand")
    write_image(tmp_path / "p" / "d.ppm", 9)
    assert annotate("p", "-o", "t.tar") == Exit.OK
    assert "t.tar: another program changed it" in capsys.readouterr().err
    assert captions(tmp_path / "t.tar.bak") == [b"by hand"] * 3
    for _ in range(2):
        # Its own archive needs no copy.
        assert annotate("p", "-o", "t.tar") == Exit.OK
        assert len(captions(tmp_path / "t.tar")) == 4
        assert [path.name for path in tmp_path.glob("*.bak*")] == ["t.tar.bak"]


def test_shards_that_another_program_changed_are_copied(
    responder: Responder, tmp_path: Path, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.annotate.outputs.webdataset.SHARD_SAMPLES", 2)
    assert annotate("p", "-o", "t-%03d.tar") == Exit.OK
    rewrite(tmp_path / "t-001.tar", b"by hand")
    assert annotate("p", "-o", "t-%03d.tar") == Exit.OK
    assert [path.name for path in tmp_path.glob("*.bak*")] == ["t-001.tar.bak"]
    assert captions(tmp_path / "t-001.tar.bak") == [b"by hand"]


def test_samples_of_others_stay_in_the_copy_and_are_not_counted_as_rows(
    responder: Responder,
    tmp_path: Path,
    texts: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        add(archive, "z.jpg", b"image")
        add(archive, "z.txt", b"of another program")
    assert annotate("p", "-o", "t.tar") == Exit.OK
    printed = capsys.readouterr()
    assert "t.tar: samples of images outside this run stay in the copy alone" in printed.err
    assert "outside this run" not in printed.out
    assert captions(tmp_path / "t.tar.bak") == [b"of another program"]
    assert len(captions(tmp_path / "t.tar")) == 3


def captions(path: Path) -> list[bytes]:
    """Return the captions of an archive."""
    return [data for name, data in members(path) if name.endswith(".txt")]


def rewrite(path: Path, caption: bytes) -> None:
    """Write an archive anew as another program does, with one caption for all samples."""
    samples = members(path)
    with tarfile.open(path, "w") as archive:
        for name, data in samples:
            add(archive, name, caption if name.endswith(".txt") else data)


def members(path: Path) -> list[tuple[str, bytes]]:
    """Return the names and the contents of an archive."""
    with tarfile.open(path) as archive:
        return [
            (member.name, (archive.extractfile(member) or io.BytesIO()).read())
            for member in archive
        ]


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member to an archive."""
    information = tarfile.TarInfo(name)
    information.size = len(data)
    archive.addfile(information, io.BytesIO(data))
