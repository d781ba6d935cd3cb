"""One directory for each model: from the cache without a request, else by a download."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download

from demo.stack import free_port
from tests.fake_hub import FakeHub, read_files
from tests.hub.conftest import NAME, UNREAD, use_hub
from tests.models.blip_checkpoints import save_caption
from worker import info
from worker.engine.errors import HubUnavailable, LoadError
from worker.hub.cache import find_snapshot
from worker.hub.files import select_files
from worker.hub.reference import HubModel
from worker.hub.resolver import refresh, resolve, resolve_config
from worker.models.registry import load


def test_a_model_is_downloaded_once_and_only_what_the_worker_reads(
    hub: FakeHub, demo_files: dict[str, bytes]
) -> None:
    snapshot = resolve(NAME)
    assert (snapshot.name, snapshot.commit) == (NAME, hub.repository(NAME).revisions["main"])
    assert sorted(hub.downloads()) == select_files(demo_files)
    assert not UNREAD.keys() & set(hub.downloads())
    for name in hub.downloads():
        assert (snapshot.directory / name).read_bytes() == demo_files[name]
    hub.requests.clear()
    assert resolve(NAME) == snapshot
    assert resolve(f"{NAME}@{snapshot.commit}") == snapshot
    assert resolve_config(NAME) == snapshot
    assert hub.requests == []


@pytest.mark.parametrize("state", ["refuses", "hangs"])
def test_a_complete_cache_needs_no_hub(
    hub: FakeHub, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = resolve(NAME)
    hub.requests.clear()
    hub.hangs = True
    if state == "refuses":
        address = f"http://127.0.0.1:{free_port()}"
        use_hub(address, Path(constants.HF_HUB_CACHE), monkeypatch)
    assert resolve(NAME) == snapshot
    assert hub.requests == []


def test_branches_tags_and_commits_are_revisions(
    hub: FakeHub, demo_files: dict[str, bytes]
) -> None:
    repository = hub.repository(NAME)
    second = repository.push(demo_files | {"model.safetensors": b"second"}, "main", "refs/pr/1")
    third = repository.push(demo_files | {"model.safetensors": b"third"}, "v3")
    assert resolve(f"{NAME}@v3").commit == third
    assert resolve(NAME, "refs/pr/1").commit == second
    assert resolve(f"{NAME}@{'1'.zfill(40)}").commit == "1".zfill(40)
    assert resolve(NAME).commit == second
    hub.requests.clear()
    assert (resolve(NAME, "v3").directory / "model.safetensors").read_bytes() == b"third"
    assert resolve(NAME, "refs/pr/1").commit == second
    assert hub.requests == []


def test_a_new_commit_is_used_after_a_refresh_and_not_before(
    hub: FakeHub, demo_files: dict[str, bytes]
) -> None:
    first = resolve(NAME)
    commit = hub.repository(NAME).push(demo_files | {"model.safetensors": b"second"})
    assert resolve(NAME) == first
    assert refresh(NAME).commit == commit
    assert resolve(NAME).commit == commit
    hub.hangs = True
    assert refresh(NAME).commit == commit


def test_a_partial_cache_of_another_program_is_completed(
    hub: FakeHub, demo_files: dict[str, bytes]
) -> None:
    # Given a program that has downloaded the configuration, and `info`, which needs no more
    hf_hub_download(NAME, "config.json")
    hub.requests.clear()
    assert resolve_config(NAME).name == NAME
    assert hub.requests == []
    assert find_snapshot(HubModel(NAME)) is None
    resolve(NAME)
    assert sorted(hub.downloads()) == sorted(set(select_files(demo_files)) - {"config.json"})


def test_every_missing_file_makes_a_cache_incomplete(hub: FakeHub) -> None:
    snapshot = resolve(NAME)
    for file in sorted(snapshot.directory.iterdir()):
        blob = file.resolve()
        file.unlink()
        assert find_snapshot(HubModel(NAME)) is None, file.name
        file.symlink_to(blob)
    assert find_snapshot(HubModel(NAME)) == snapshot


def test_the_configuration_alone_is_enough_for_a_report(hub: FakeHub) -> None:
    assert resolve_config(NAME).commit
    assert hub.downloads() == ["config.json"]
    hub.requests.clear()
    resolve_config(NAME)
    assert hub.requests == []


def test_a_model_is_loaded_from_the_cache_alone_under_its_hub_name(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_caption(tmp_path / "saved")
    commit = hub.repository("owner/caption").push(read_files(tmp_path / "saved"))
    resolve("owner/caption")
    hub.requests.clear()
    model = load("owner/caption", device="cpu")
    assert (model.name, model.commit) == ("owner/caption", commit)
    assert model.revision == load(str(tmp_path / "saved"), device="cpu").revision
    assert info.main(["owner/caption", "--device", "cpu"]) == 0
    assert hub.requests == []


@pytest.mark.parametrize("variable", ["BLIPLINE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_sends_no_request_and_names_the_remedy(
    hub: FakeHub, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = variable == "BLIPLINE_OFFLINE"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not offline)
    for operation in (resolve, resolve_config, refresh):
        with pytest.raises(LoadError) as raised:
            operation(NAME, "v1", offline=offline)
        assert not isinstance(raised.value, HubUnavailable)
        assert f"{variable} forbids" in str(raised.value)
        assert f"`python -m worker download {NAME}@v1`" in str(raised.value)
    assert hub.requests == []
    # With a complete cache
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    snapshot = resolve(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not offline)
    hub.requests.clear()
    assert resolve(NAME, offline=offline) == refresh(NAME, offline=offline) == snapshot
    assert hub.requests == []
