"""Adapters of peft: their base is a model as any other, and none is left out by accident."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.settings import WorkerSettings
from tests.fake_hub import FakeHub
from tests.hub.conftest import NAME
from worker.engine.__main__ import find_snapshots
from worker.engine.errors import LoadError
from worker.hub import command
from worker.hub.cache import find_snapshot
from worker.hub.reference import HubModel, Snapshot
from worker.hub.resolver import resolve, resolve_config

ADAPTER = "owner/lora"
#: Files of a training run, which the worker never reads.
TRAINING = dict.fromkeys(
    ("README.md", "optimizer.pt", "checkpoint-9/adapter_model.safetensors", "adapter_model.bin"),
    b"not read",
)


def adapter_files(base: str | None = NAME, **settings: Any) -> dict[str, bytes]:
    """Return the files of an adapter on the hub."""
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "revision": None, **settings}
    return {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": b"weights",
        "tokenizer_config.json": b"{}",
        **TRAINING,
    }


def save_adapter(path: Path, base: str | None = NAME, **settings: Any) -> str:
    path.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (path / name).write_bytes(adapter_files(base, **settings)[name])
    return str(path)


def save_base(path: Path) -> str:
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"weights")
    return str(path)


def test_the_name_of_an_adapter_brings_its_base_once(hub: FakeHub) -> None:
    commit = hub.repository(ADAPTER).push(adapter_files())
    snapshot = resolve(ADAPTER)
    assert snapshot.adapter is not None
    assert (snapshot.name, snapshot.adapter.name) == (NAME, ADAPTER)
    assert snapshot.title == f"{NAME} with {ADAPTER}"
    assert snapshot.commits == f"{snapshot.commit}+{commit}"
    assert f"{NAME}, commit {snapshot.commit} in " in str(snapshot)
    assert f", with adapter {ADAPTER}, commit {commit} in " in str(snapshot)
    assert not TRAINING.keys() & set(hub.downloads())
    hub.requests.clear()
    assert resolve(ADAPTER) == resolve(NAME, adapter=ADAPTER) == snapshot
    assert resolve(f"{ADAPTER}@{commit}") == snapshot
    assert hub.requests == []


def test_every_missing_file_of_an_adapter_makes_a_cache_incomplete(hub: FakeHub) -> None:
    hub.repository(ADAPTER).push(adapter_files())
    adapter = resolve(ADAPTER).adapter
    assert adapter is not None
    for listed in (True, False):
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            blob = (adapter.directory / name).resolve()
            (adapter.directory / name).unlink()
            assert find_snapshot(HubModel(ADAPTER)) is None, name
            (adapter.directory / name).symlink_to(blob)
        assert find_snapshot(HubModel(ADAPTER)) == adapter
        if listed:  # as in a cache of older programs
            (adapter.directory.parents[1] / "trees" / f"{adapter.commit}.json").unlink()


def test_the_revision_of_a_base_is_the_one_that_the_adapter_was_trained_on(
    hub: FakeHub, demo_files: dict[str, bytes]
) -> None:
    trained_on = hub.repository(NAME).push(demo_files, "v2")
    hub.repository(NAME).push(demo_files | {"model.safetensors": b"later"})
    hub.repository(ADAPTER).push(adapter_files(revision="v2"), "old")
    hub.repository(ADAPTER).push(adapter_files())
    assert resolve(f"{ADAPTER}@old").commit == resolve(ADAPTER, "old").commit == trained_on
    assert resolve(ADAPTER).commit == resolve(NAME).commit != trained_on


def test_a_report_needs_the_two_configurations_alone(hub: FakeHub) -> None:
    hub.repository(ADAPTER).push(adapter_files())
    assert resolve_config(ADAPTER).title == f"{NAME} with {ADAPTER}"
    assert sorted(hub.downloads()) == ["adapter_config.json", "config.json"]


def test_the_command_downloads_an_adapter_and_its_base(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repository(ADAPTER).push(adapter_files(base="/nowhere"))
    # As the supervisor calls it
    assert command.main([ADAPTER, "--without-base"]) == 0
    adapter = find_snapshot(HubModel(ADAPTER))
    assert adapter is not None
    assert capsys.readouterr().out == f"{adapter.directory}\n"
    assert command.main([ADAPTER]) == 2
    monkeypatch.setenv("BLIPLINE_MODEL", NAME)
    monkeypatch.setenv("BLIPLINE_ADAPTER", ADAPTER)
    assert command.main([]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [str(resolve(NAME).directory), str(adapter.directory)]


@pytest.mark.parametrize(
    ("model", "adapter"), [(ADAPTER, ""), (NAME, ADAPTER)], ids=["model", "setting"]
)
def test_an_engine_reads_the_directories_that_the_supervisor_found(
    hub: FakeHub, model: str, adapter: str
) -> None:
    hub.repository(ADAPTER).push(adapter_files())
    hub.repository("owner/match").push(adapter_files())
    settings = WorkerSettings(model=model, adapter=adapter, match_model="owner/match")
    snapshots = find_snapshots(settings)
    directories = [snapshot.directory for snapshot in snapshots]
    adapters = [snapshot.adapter.directory for snapshot in snapshots if snapshot.adapter]
    order = [directories[0], adapters[0]]
    if model == ADAPTER:
        order.reverse()
    hub.hangs = True
    given = [*order, adapters[1], directories[1]]
    assert find_snapshots(settings, given) == snapshots


def test_named_adapters_are_found_in_the_order_of_the_setting(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    # The base that they name is not read: the items of another base choose them, too
    hub.repository(ADAPTER).push(adapter_files(base="/nowhere"))
    local, merged = save_adapter(tmp_path / "a"), save_adapter(tmp_path / "b")
    adapters = f"red={local},blue={ADAPTER}"
    settings = WorkerSettings(model=NAME, adapter=merged, adapters=adapters, match_model="none")
    (snapshot,) = find_snapshots(settings)
    assert [(name, each.name) for name, each in snapshot.adapters] == [
        ("red", local),
        ("blue", ADAPTER),
    ]
    assert snapshot.title == f"{NAME} with {merged}"
    assert f"; adapter red: {local}; adapter blue: {ADAPTER}, commit" in str(snapshot)
    directories = [snapshot.directory, Path(merged), *(s.directory for _, s in snapshot.adapters)]
    assert find_snapshots(settings, directories) == [snapshot]
    for name, value in {"MODEL": NAME, "ADAPTER": merged, "ADAPTERS": adapters}.items():
        monkeypatch.setenv(f"BLIPLINE_{name}", value)
    assert command.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [str(each) for each in directories]


def test_a_named_adapter_that_is_none_is_one_sentence(hub: FakeHub, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    for reference, message in (
        (f"{tmp_path}/no", "BLIPLINE_ADAPTERS=red=.*/no does not exist; check the path"),
        (base, "is no adapter of peft: .*; check BLIPLINE_ADAPTERS"),
    ):
        with pytest.raises(LoadError, match=message):
            resolve(base, adapters=[("red", reference)])


def refusal(model: str, adapter: str = "") -> str:
    with pytest.raises(LoadError) as raised:
        resolve(model, adapter=adapter, offline=True)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_an_adapter_beside_weights_is_merged_or_left_out_only_by_choice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = save_base(tmp_path / "base")
    path = Path(base)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (path / name).write_bytes(adapter_files()[name])
    message = refusal(base)
    assert f"set BLIPLINE_ADAPTER={base} to merge it or BLIPLINE_ADAPTER=none to" in message
    own = Snapshot(base, path)
    assert resolve(base, adapter=base) == Snapshot(base, path, "", own)
    assert not caplog.records
    assert resolve(base, adapter="none") == own
    second = save_adapter(tmp_path / "second")
    assert resolve(base, adapter=second).adapter == Snapshot(second, Path(second))
    assert len(caplog.records) == 2
    # Without weights of its own, the configuration beside an adapter is only a copy
    (path / "model.safetensors").unlink()
    assert "is an adapter itself" in refusal(base, adapter=second)


#: Settings that name no base, and the remedy.
WRONG: dict[str, tuple[Callable[[Path], tuple[str, str]], str]] = {
    "no adapter": (
        lambda path: (save_base(path / "a"), save_base(path / "b")),
        "is no adapter of peft: {path}/b has no adapter_config.json; check BLIPLINE_ADAPTER.",
    ),
    "a folder of adapters": (
        lambda path: (save_base(path / "a"), str(Path(save_adapter(path / "b")).parent)),
        "has no adapter_config.json; choose one of {path}/b.",
    ),
    "an adapter for an adapter": (
        lambda path: (save_adapter(path / "a"), save_adapter(path / "b")),
        "set BLIPLINE_MODEL to the base of both, or unset BLIPLINE_ADAPTER.",
    ),
    "an adapter of an adapter": (
        lambda path: (save_adapter(path / "a", save_adapter(path / "b")), ""),
        "is an adapter itself; merge that into its base",
    ),
    "a base of another machine": (
        lambda path: (save_adapter(path / "a", "/home/trainer/blip2"), ""),
        "'/home/trainer/blip2', does not exist here; set BLIPLINE_MODEL to the model that it was",
    ),
    "no base": (
        lambda path: (save_adapter(path / "a", None), ""),
        "does not name its base; set BLIPLINE_MODEL to the model that it was trained on, and"
        " BLIPLINE_ADAPTER to '{path}/a'.",
    ),
    "a base that is not in the cache": (
        lambda path: (save_adapter(path / "a", "owner/base", revision="v2"), ""),
        "Model 'owner/base@v2' is not complete in the hub's cache",
    ),
    "no such directory": (
        lambda path: (save_base(path / "a"), f"{path}/b"),
        "BLIPLINE_ADAPTER={path}/b does not exist; check the path.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_adapter_without_its_base_is_one_sentence(
    tmp_path: Path, case: str, hub: FakeHub
) -> None:
    settings, part = WRONG[case]
    assert part.format(path=tmp_path) in refusal(*settings(tmp_path))
    assert hub.requests == []


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str) -> None:
    adapter = save_adapter(tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").write_text(text)
    assert f"{adapter}/adapter_config.json of adapter" in refusal(adapter)


def test_an_adapter_without_weights_on_the_hub_is_named(
    hub: FakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    files = adapter_files()
    hub.repository(ADAPTER).push({"adapter_config.json": files["adapter_config.json"]})
    with pytest.raises(LoadError, match="no adapter of peft: it has no weights"):
        resolve(ADAPTER)
