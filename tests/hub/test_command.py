"""`python -m worker download` and the start of an engine: directories, exit codes, sentences."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from huggingface_hub import constants

from config.settings import DEMO_MATCH_MODEL, DEMO_MODEL, WorkerSettings
from demo.stack import ROOT
from tests.fake_hub import FakeHub
from tests.hub.conftest import NAME
from worker.engine.__main__ import find_snapshots
from worker.hub import command
from worker.hub.cache import find_snapshot, repository
from worker.hub.reference import HubModel, Snapshot
from worker.hub.resolver import resolve


def environment(hub: FakeHub, **settings: str) -> dict[str, str]:
    """Return the environment of a process that uses the hub and the cache of this test."""
    used = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": constants.HF_HUB_CACHE}
    return {**os.environ, **used, "BLIPLINE_MODEL": NAME, **settings}


def run(*arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, env=dict(env), cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_the_command_prints_the_directory_alone(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([NAME]) == 0
    snapshot = resolve(NAME)
    assert capsys.readouterr().out == f"{snapshot.directory}\n"
    assert command.main([NAME, "--revision", snapshot.commit]) == 0
    assert command.main([str(DEMO_MODEL)]) == 0
    assert capsys.readouterr().out == f"{snapshot.directory}\n{DEMO_MODEL}\n"


def test_without_a_name_the_command_downloads_the_models_of_the_settings(
    hub: FakeHub,
    demo_files: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = hub.repository(NAME).push(demo_files, "v2")
    hub.repository("owner/match").push(demo_files)
    monkeypatch.setenv("BLIPLINE_MODEL", NAME)
    monkeypatch.setenv("BLIPLINE_MODEL_REVISION", "v2")
    monkeypatch.setenv("BLIPLINE_MATCH_MODEL", "owner/match")
    assert command.main([]) == 0
    expected = [resolve(NAME, "v2").directory, resolve("owner/match").directory]
    assert capsys.readouterr().out.splitlines() == [*map(str, expected)]
    assert expected[0].name == commit


def test_the_exit_code_tells_whether_another_attempt_helps(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command.main(["owner/absent"]) == 2
    hub.status = 503
    assert command.main([NAME]) == 1
    monkeypatch.setenv("BLIPLINE_OFFLINE", "1")
    assert command.main([NAME]) == 2
    monkeypatch.setenv("BLIPLINE_OFFLINE", "perhaps")
    assert command.main([NAME]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 4


def test_a_process_logs_its_progress_and_nothing_else(hub: FakeHub) -> None:
    done = run("worker", "download", NAME, env=environment(hub))
    assert done.returncode == 0
    snapshot = resolve(NAME)
    assert done.stdout == f"{snapshot.directory}\n"
    (line,) = done.stderr.splitlines()
    assert " INFO download[" in line
    assert f": {NAME}@main: 0." in line
    assert "MB to download into" in line


def test_a_killed_download_leaves_nothing_that_counts_as_complete(
    hub: FakeHub, demo_files: dict[str, bytes]
) -> None:
    # Given an earlier complete snapshot and a new commit
    first = resolve(NAME)
    hub.repository(NAME).push(demo_files | {"model.safetensors": b"second" * 1000})
    hub.blocked.add("model.safetensors")
    hub.requests.clear()
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", "download", NAME], env=environment(hub), cwd=ROOT
    )
    wait_for_download(hub)
    process.kill()
    process.wait()
    # Then the earlier one is used, and a later download completes the new one
    assert find_snapshot(HubModel(NAME)) == first
    (temporary,) = repository(HubModel(NAME)).glob("blobs/*.incomplete")
    os.utime(temporary, (time.time() - 3600,) * 2)
    hub.blocked.clear()
    assert command.main([NAME]) == 0
    assert resolve(NAME).commit == hub.repository(NAME).revisions["main"]
    assert (resolve(NAME).directory / "model.safetensors").read_bytes() == b"second" * 1000
    assert not [*repository(HubModel(NAME)).glob("blobs/*.incomplete")]


def wait_for_download(hub: FakeHub) -> None:
    deadline = time.monotonic() + 60
    while "model.safetensors" not in hub.downloads():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_tries_a_download_again_and_ends_with_the_reason_why_it_cannot_succeed(
    hub: FakeHub, redis_url: str, tmp_path: Path
) -> None:
    # A hub that is out of order may answer later
    hub.outage = 1
    hub.repository(NAME).access = "gated"
    settings = {"BLIPLINE_REDIS_URL": redis_url, "BLIPLINE_RUN_DIR": str(tmp_path / "run")}
    done = run("worker", env=environment(hub, **settings))
    assert done.returncode == 2
    assert done.stderr.count("503") == 1
    assert done.stderr.count(f"worker download: Model '{NAME}' is gated") == 1
    assert "Traceback" not in done.stderr


def test_a_worker_stops_during_a_download(hub: FakeHub, redis_url: str, tmp_path: Path) -> None:
    hub.blocked.add("model.safetensors")
    settings = {"BLIPLINE_REDIS_URL": redis_url, "BLIPLINE_RUN_DIR": str(tmp_path / "run")}
    process = subprocess.Popen(
        [sys.executable, "-m", "worker"], env=environment(hub, **settings), cwd=ROOT
    )
    wait_for_download(hub)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert find_snapshot(HubModel(NAME)) is None


def test_an_engine_without_a_supervisor_finds_its_models_itself(
    hub: FakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = WorkerSettings(model=NAME, match_model=str(DEMO_MATCH_MODEL))
    snapshots = find_snapshots(settings)
    assert snapshots == [resolve(NAME), Snapshot(str(DEMO_MATCH_MODEL), DEMO_MATCH_MODEL)]
    commit, directory = snapshots[0].commit, snapshots[0].directory
    assert f"model {NAME}, commit {commit} in {directory}" in caplog.messages
    # With a supervisor, it reads the given directories, even if they are not in the cache
    hub.hangs = True
    hub.requests.clear()
    given = [Path("/snapshots/0123"), DEMO_MATCH_MODEL]
    assert find_snapshots(settings, given) == [
        Snapshot(NAME, Path("/snapshots/0123"), "0123"),
        snapshots[1],
    ]
    assert hub.requests == []


def test_an_engine_whose_model_is_missing_ends_before_it_loads_torch(
    hub: FakeHub, tmp_path: Path
) -> None:
    run_dir = {"BLIPLINE_RUN_DIR": str(tmp_path / "run")}
    done = run("worker.engine", env=environment(hub, BLIPLINE_OFFLINE="1", **run_dir))
    assert done.returncode == 2
    assert "BLIPLINE_OFFLINE forbids its download" in done.stderr
    hub.status = 500
    done = run("worker.engine", env=environment(hub, **run_dir))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
