"""The workspace of a run: incomplete output, checkpoints, and the replacement of the output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from producer.capfilt.stream import Terms
from producer.capfilt.workspace import RunCheckpoint, Workspace
from producer.errors import InvalidInput


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(
        {"accepted": tmp_path / "accepted.jsonl", "rejected": tmp_path / "rejected.jsonl"}
    )


def started(workspace: Workspace) -> RunCheckpoint:
    """Open a workspace, and write a part of one line to each file."""
    checkpoint = RunCheckpoint("id", Terms(), {"seed": 1}, sizes=workspace.sizes)
    workspace.open(checkpoint)
    lines = {"accepted": [{"text": "é\udcff"}], "rejected": [{"text": "b"}]}
    return workspace.append(lines, replace(checkpoint, parts=1, digest="d"))


def test_lines_after_the_checkpoint_are_written_again(workspace: Workspace, tmp_path: Path) -> None:
    checkpoint = started(workspace)
    workspace.close()
    # A crash while the lines of the second part were written
    with (workspace.directory / "accepted").open("ab") as file:
        file.write(b'{"text": "incompl')
    assert workspace.read() == checkpoint
    workspace.open(checkpoint)
    lines = {"accepted": [{"text": "c"}], "rejected": []}
    workspace.finish(workspace.append(lines, replace(checkpoint, parts=2)))
    expected = '{"text": "é\\udcff"}\n{"text": "c"}\n'
    assert (tmp_path / "accepted.jsonl").read_text() == expected
    assert (tmp_path / "rejected.jsonl").read_text() == '{"text": "b"}\n'
    assert not workspace.directory.exists()


def test_a_crash_between_the_replacements_of_files_is_completed(
    workspace: Workspace, tmp_path: Path
) -> None:
    checkpoint = replace(started(workspace), complete=True)
    workspace.close()
    (workspace.directory / "accepted").replace(tmp_path / "accepted.jsonl")
    workspace.open(checkpoint)
    workspace.finish(checkpoint)
    assert (tmp_path / "accepted.jsonl").stat().st_size > 0
    assert (tmp_path / "rejected.jsonl").read_text() == '{"text": "b"}\n'


def test_the_target_of_a_symbolic_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    workspace = Workspace({"accepted": tmp_path / "link"})
    checkpoint = RunCheckpoint("id", Terms(), {}, sizes=workspace.sizes)
    workspace.open(checkpoint)
    workspace.finish(workspace.append({"accepted": [1]}, checkpoint))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "1\n"


def test_a_damaged_workspace_is_named_with_the_remedy(workspace: Workspace) -> None:
    checkpoint = started(workspace)
    workspace.close()
    (workspace.directory / "accepted").write_text("")
    with pytest.raises(InvalidInput, match="shorter than at the last checkpoint; delete"):
        workspace.open(checkpoint)
    workspace.close()
    for damage in ("", "{}", '{"terms": 5}', "[1"):
        (workspace.directory / "checkpoint.json").write_text(damage)
        with pytest.raises(InvalidInput, match="delete this directory"):
            workspace.read()


def test_other_terms_options_or_files_are_another_run(workspace: Workspace) -> None:
    checkpoint = RunCheckpoint("id", Terms(), {"seed": 1}, sizes=workspace.sizes)
    assert checkpoint.is_run_of(replace(checkpoint, run_id="other", parts=5))
    for different in (
        replace(checkpoint, terms=Terms(2)),
        replace(checkpoint, options={"seed": 2}),
        replace(checkpoint, sizes={"accepted": 0}),
    ):
        assert not checkpoint.is_run_of(different)
