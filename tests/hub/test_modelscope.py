"""Models of ModelScope, by its own client: one directory, resolved once, as those of the hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import WorkerSettings
from demo.stack import ROOT, free_port
from tests.fake_hub import TOKEN, FakeHub, running_hub
from tests.fake_modelscope import ModelScopeHandler
from tests.hub.conftest import UNREAD, use_hub
from worker.engine.__main__ import find_snapshots
from worker.engine.errors import HubUnavailable, LoadError
from worker.hub import command, modelscope
from worker.hub.cache import find_snapshot, repository
from worker.hub.files import select_files
from worker.hub.reference import HubModel, parse_model
from worker.hub.resolver import refresh, resolve, resolve_config

REPOSITORY = "owner/demo"
NAME = f"modelscope:{REPOSITORY}"
MODEL = HubModel(REPOSITORY, "master", True)


@pytest.fixture
def scope(
    demo_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    """ModelScope with one model, which this process uses with an empty cache."""
    with running_hub(ModelScopeHandler) as server:
        server.repository(REPOSITORY).push(demo_files, "master")
        # Nothing here may ask the other hub
        use_hub(f"http://127.0.0.1:{free_port()}", tmp_path / "home" / "hub", monkeypatch)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.address)
        monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "credentials"))
        yield server


def downloads(server: FakeHub) -> int:
    return sum(line.endswith("/repo") for line in server.requests)


def test_a_model_is_downloaded_once_and_only_what_the_worker_reads(
    scope: FakeHub, demo_files: dict[str, bytes], tmp_path: Path
) -> None:
    snapshot = resolve(NAME)
    names = select_files(demo_files)
    assert snapshot.name == NAME
    assert snapshot.directory.is_relative_to(tmp_path / "home" / "modelscope")
    assert snapshot.directory.name == snapshot.commit
    assert downloads(scope) == len(names)
    for name in names:
        assert (snapshot.directory / name).read_bytes() == demo_files[name]
    assert not any((snapshot.directory / name).exists() for name in UNREAD)
    scope.requests.clear()
    assert resolve(NAME) == resolve_config(NAME) == snapshot
    assert resolve(f"{NAME}@master") == resolve(NAME, offline=True) == snapshot
    assert scope.requests == []


def test_a_newer_state_of_a_branch_is_a_directory_of_its_own(
    scope: FakeHub, demo_files: dict[str, bytes]
) -> None:
    first = resolve(NAME)
    repository, weights = scope.repository(REPOSITORY), first.directory / "model.safetensors"
    repository.push(demo_files | {"model.safetensors": b"second"}, "master")
    commit = repository.push(demo_files | {"model.safetensors": b"third"}, "v3")
    assert resolve(NAME) == first
    scope.requests.clear()
    second = refresh(NAME)
    # The other files are in another directory, so all are loaded; the running one is untouched
    assert second != first
    assert weights.read_bytes() == demo_files["model.safetensors"]
    assert (second.directory / "model.safetensors").read_bytes() == b"second"
    assert resolve(NAME) == second
    third = resolve(f"{NAME}@v3")
    assert (third.directory / "model.safetensors").read_bytes() == b"third"
    assert resolve(NAME, commit) == third
    scope.requests.clear()
    assert refresh(NAME) == second
    assert resolve(NAME, commit) == third
    assert downloads(scope) == 0


def test_a_partial_snapshot_is_completed(scope: FakeHub) -> None:
    assert resolve_config(NAME).name == NAME
    assert downloads(scope) == 1
    assert find_snapshot(MODEL) is None
    shutil.rmtree(repository(MODEL) / "trees")
    snapshot = resolve(NAME)
    for path in snapshot.directory.iterdir():
        data = path.read_bytes()
        path.unlink()
        assert find_snapshot(MODEL) is None, path.name
        path.write_bytes(data)
    assert find_snapshot(MODEL) == snapshot


def test_the_command_and_the_settings_take_its_names(
    scope: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scope.repository(REPOSITORY).revisions["v2"] = scope.repository(REPOSITORY).revisions["master"]
    assert command.main([NAME, "--revision", "v2"]) == 0
    assert capsys.readouterr().out == f"{resolve(NAME, 'v2').directory}\n"
    # As the supervisor calls it
    assert command.main([NAME, "--revision=v2", "--without-base"]) == 0
    assert capsys.readouterr().out == f"{resolve(NAME, 'v2').directory}\n"
    settings = WorkerSettings(model=f"{NAME}@v2", match_model="none")
    (snapshot,) = find_snapshots(settings)
    assert snapshot == resolve(NAME, "v2")
    assert find_snapshots(settings, [snapshot.directory]) == [snapshot]
    assert command.main(["modelscope:owner/none"]) == 2
    assert "Model 'modelscope:owner/none' does not exist" in capsys.readouterr().err


def failure(model: str = NAME) -> LoadError:
    with pytest.raises(LoadError) as raised:
        resolve(model)
    message = str(raised.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert repr(model.partition("@")[0]) in message
    parsed = parse_model(model)
    assert isinstance(parsed, HubModel)
    assert find_snapshot(parsed) is None
    return raised.value


def test_what_time_does_not_mend_is_one_sentence(
    scope: FakeHub, monkeypatch: pytest.MonkeyPatch, demo_files: dict[str, bytes]
) -> None:
    errors = {
        "modelscope:owner/absent": "does not exist at http.*MODELSCOPE_API_TOKEN",
        f"{NAME}@v9": "has no revision 'v9'",
    }
    scope.repository("owner/empty").push({"README.md": b"nothing"}, "master")
    errors["modelscope:owner/empty"] = "is no checkpoint of transformers"
    scope.repository("owner/private").push(demo_files, "master")
    scope.repository("owner/private").access = "private"
    errors["modelscope:owner/private"] = "is refused .HTTP 401.: set MODELSCOPE_API_TOKEN"
    for model, message in errors.items():
        error = failure(model)
        assert not isinstance(error, HubUnavailable)
        with pytest.raises(LoadError, match=message):
            raise error
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    assert resolve("modelscope:owner/private").commit


def test_an_outage_is_one_sentence_and_may_end_later(
    scope: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope.status = 503
    error = failure()
    assert isinstance(error, HubUnavailable)
    assert f"cannot be downloaded from {scope.address} (HTTP 503)" in str(error)
    scope.status = 0
    snapshot = resolve(NAME)
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", address)
    # The cache is complete
    assert resolve(NAME) == refresh(NAME) == snapshot
    with pytest.raises(HubUnavailable, match=f"from {address} .*MODELSCOPE_ENDPOINT"):
        resolve("modelscope:owner/second")


def test_a_hub_that_never_answers_is_unavailable_in_bounded_time(
    scope: FakeHub, tmp_path: Path
) -> None:
    scope.hangs = True
    seconds = {name: "1" for name in modelscope.CLIENT_SETTINGS if "TIMEOUT" in name}
    environment = {**os.environ, **seconds, "HF_HOME": str(tmp_path / "empty")}
    arguments = [sys.executable, "-m", "worker", "download", NAME]
    done = subprocess.run(
        arguments, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert f"worker download: Model '{NAME}' cannot be downloaded from" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_download_that_breaks_off_leaves_nothing_that_counts_as_complete(
    scope: FakeHub, demo_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(modelscope, "_fetch", wrong)
        error = failure()
        assert "cannot be stored" in str(error)
        assert "is full" in str(error)
        assert not isinstance(error, HubUnavailable)
    # The first bytes of a broken transfer are kept, and the rest is asked for
    scope.cuts["model.safetensors"] = 1000
    snapshot = resolve(NAME)
    assert (snapshot.directory / "model.safetensors").read_bytes() == demo_files[
        "model.safetensors"
    ]


def test_without_a_request_or_without_the_package_the_remedy_is_named(
    scope: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LoadError, match=r"BLIPLINE_OFFLINE forbids .*`python -m worker download m"):
        resolve(NAME, offline=True)
    monkeypatch.setattr(modelscope, "find_spec", lambda name: None)
    assert "needs the package modelscope-hub; install the packages" in str(failure())
    assert scope.requests == []
