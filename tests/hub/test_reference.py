"""Model settings: directories, hub names, revisions."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import DEMO_MODEL, NULL_MODEL, WorkerSettings
from producer import InvalidInput
from worker.engine.errors import LoadError
from worker.hub.reference import HubModel, Snapshot, parse_model


@pytest.mark.parametrize(
    ("setting", "revision", "expected"),
    [
        ("owner/name", "", HubModel("owner/name", "main")),
        ("name", "", HubModel("name", "main")),
        ("owner/name@v1.0", "", HubModel("owner/name", "v1.0")),
        ("owner/name@refs/pr/4", "", HubModel("owner/name", "refs/pr/4")),
        ("owner/name", "v2", HubModel("owner/name", "v2")),
        ("owner/name@v2", "v2", HubModel("owner/name", "v2")),
        ("modelscope:owner/name", "", HubModel("owner/name", "master", True)),
        ("modelscope:owner/name@v2", "", HubModel("owner/name", "v2", True)),
    ],
)
def test_a_hub_name_may_have_a_revision(setting: str, revision: str, expected: HubModel) -> None:
    assert parse_model(setting, revision) == expected


@pytest.mark.parametrize("name", ["plain", "owner/name", "a/b/c", "at@sign"])
def test_a_directory_is_itself_whatever_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse_model(name) == Snapshot(name, Path(name))


@pytest.mark.parametrize(
    ("setting", "revision", "message"),
    [
        ("/no/such/directory", "", "does not exist"),
        ("./missing", "", "does not exist"),
        ("a/b/c", "", "does not exist"),
        ("owner/name@", "", "neither a directory nor a hub name"),
        ("owner/na me", "", "neither a directory nor a hub name"),
        ("modelscope:name", "", "no name of ModelScope; write modelscope:owner/name"),
        ("modelscope:owner/na me", "", "neither a directory nor a hub name"),
        ("owner/name@../../x", "", "neither a directory nor a hub name"),
        ("owner/name", "/etc", "neither a directory nor a hub name"),
        ("", "", "neither a directory nor a hub name"),
        ("owner/name@a", "b", "two revisions"),
        (str(DEMO_MODEL), "main", "has no revision"),
    ],
)
def test_another_setting_is_an_error_of_one_sentence(
    setting: str, revision: str, message: str
) -> None:
    with pytest.raises(LoadError, match=message) as raised:
        parse_model(setting, revision)
    assert "\n" not in str(raised.value)


def test_settings_name_the_models_and_revision_and_adapter_of_the_first() -> None:
    assert WorkerSettings(model=NULL_MODEL).checkpoints() == []
    two = WorkerSettings(model="a/b", model_revision="v1", adapter="e/f", match_model="c/d@v2")
    assert two.checkpoints() == [("a/b", "v1", "e/f", []), ("c/d@v2", "", "", [])]
    # Engines of other revisions and adapters have other directories.
    default, pinned = WorkerSettings(model="a/b"), WorkerSettings(model="a/b", model_revision="v1")
    adapted = WorkerSettings(model="a/b", adapter="v1")
    named = WorkerSettings(model="a/b", match_model="none", adapters=" red=./lora, b.2=c/d@v2,")
    assert named.checkpoints() == [("a/b", "", "", [("red", "./lora"), ("b.2", "c/d@v2")])]
    directories = {each.runtime_dir() for each in (two, default, pinned, adapted, named)}
    assert len(directories) == 5


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        ("red", "'red' is no adapter: write name=directory"),
        ("red=", "is no adapter"),
        ("a b=c", "is no adapter"),
        ("red=a,red=b", "'red' occurs twice"),
    ],
)
def test_a_setting_of_named_adapters_is_checked(adapters: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        WorkerSettings.load(adapters=adapters)
