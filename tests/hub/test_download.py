"""Failures of the hub: one sentence with the remedy in bounded time, and no damaged cache."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, get_session

from demo.stack import free_port
from tests.fake_hub import TOKEN, FakeHub
from tests.hub.conftest import NAME, use_hub
from worker.engine.errors import HubUnavailable, LoadError
from worker.hub import download
from worker.hub.cache import find_snapshot
from worker.hub.reference import HubModel
from worker.hub.resolver import resolve, resolve_config


def failure(model: str = NAME) -> LoadError:
    """Return the error of a first download; its cache must not count as complete."""
    with pytest.raises(LoadError) as raised:
        resolve(model)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(".")
    assert repr(model.partition("@")[0]) in str(raised.value)
    name, _, revision = model.partition("@")
    assert find_snapshot(HubModel(name, revision or "main")) is None
    return raised.value


@pytest.mark.parametrize(
    ("model", "message"),
    [("owner/absent", "does not exist .* private.*HF_TOKEN"), (f"{NAME}@v9", "no revision 'v9'")],
)
def test_an_unknown_name_or_revision_is_permanent(hub: FakeHub, model: str, message: str) -> None:
    error = failure(model)
    assert not isinstance(error, HubUnavailable)
    with pytest.raises(LoadError, match=message):
        raise error


@pytest.mark.parametrize(
    ("access", "message"), [("gated", "is gated: accept its terms"), ("private", "is private")]
)
def test_a_model_that_needs_a_token_names_it_and_is_served_with_it(
    hub: FakeHub, access: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repository(NAME).access = access
    for token in ("", "hf_of_another_account"):
        monkeypatch.setenv("HF_TOKEN", token)
        error = failure()
        assert message in str(error)
        assert "HF_TOKEN" in str(error)
        assert not isinstance(error, HubUnavailable)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert resolve(NAME).commit


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_permanent(hub: FakeHub, status: int) -> None:
    hub.status = status
    error = failure()
    assert "HF_TOKEN" in str(error)
    assert not isinstance(error, HubUnavailable)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_error_of_the_hub_is_transient(hub: FakeHub, status: int) -> None:
    hub.status = status
    error = failure()
    assert isinstance(error, HubUnavailable)
    assert f"HTTP {status}" in str(error)
    hub.status = 0
    assert resolve(NAME).commit


def test_a_hub_that_refuses_is_transient(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    use_hub(address, Path(constants.HF_HUB_CACHE), monkeypatch)
    error = failure()
    assert isinstance(error, HubUnavailable)
    assert f"{address} ([Errno 111] Connection refused)" in str(error)


def test_a_hub_that_never_answers_is_asked_once(hub: FakeHub) -> None:
    hub.hangs = True
    error = failure()
    assert isinstance(error, HubUnavailable)
    assert "no answer in time" in str(error)
    assert len(hub.requests) == 1


def test_requests_without_a_time_limit_get_one(hub: FakeHub) -> None:
    # huggingface_hub lists a repository without any timeout.
    download._limit_requests()
    hub.hangs = True
    with pytest.raises(Exception, match="timed out"):
        get_session().get(hub.address, timeout=None)


def test_a_connection_that_breaks_off_is_resumed(
    hub: FakeHub, demo_files: dict[str, bytes]
) -> None:
    hub.cuts["model.safetensors"] = 1000
    directory = resolve(NAME).directory
    assert (directory / "model.safetensors").read_bytes() == demo_files["model.safetensors"]
    assert hub.downloads().count("model.safetensors") == 2


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "is full"), (errno.EROFS, "cannot be written")]
)
def test_a_cache_that_takes_no_files_is_permanent(
    hub: FakeHub, code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(download, "snapshot_download", fail)
    error = failure()
    assert message in str(error)
    assert "HF_HOME" in str(error)
    assert not isinstance(error, HubUnavailable)


def test_a_disk_without_room_is_noticed_before_the_download(
    hub: FakeHub, demo_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "GB free; free more, or set HF_HOME" in str(failure())
    assert hub.downloads() == []


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_repository_that_is_no_checkpoint_is_permanent(
    hub: FakeHub, demo_files: dict[str, bytes], missing: str
) -> None:
    files = {name: data for name, data in demo_files.items() if name.endswith(".json")}
    files |= {"model.safetensors": b"weights"}
    del files[missing]
    hub.repository("owner/other").push(files)
    error = failure("owner/other")
    assert "no checkpoint" in str(error)
    assert not isinstance(error, HubUnavailable)
    if missing == "config.json":
        with pytest.raises(LoadError, match="it is no checkpoint"):
            resolve_config("owner/other")
