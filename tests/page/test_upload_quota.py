"""The disk that uploads may take."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from starlette.types import Message

from producer.page import upload_quota


def a_file(path: Path, size: int, age_s: float = 0.0) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    for one in (path, path.parent):
        os.utime(one, (time.time() - age_s,) * 2)
    return path


def test_what_was_forgotten_goes_and_the_rest_is_counted(tmp_path: Path) -> None:
    fresh = a_file(tmp_path / "a" / "fresh.png", 100)
    old = a_file(tmp_path / "b" / "old.png", 1000, upload_quota.FORGOTTEN_S + 60)
    assert upload_quota.tidy(str(tmp_path)) == 100
    assert fresh.exists()
    assert not old.exists()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> upload_quota.UploadQuota:
    """For a thousand bytes, of which one name may have 250."""
    monkeypatch.setattr(upload_quota, "MAX_HELD_BYTES", 1000)
    return upload_quota.UploadQuota(str(tmp_path), 3600)


async def nothing() -> Message:
    """Of an upload that sends nothing."""
    raise AssertionError


async def upload(room: upload_quota.UploadQuota, name: str, size: int) -> None:
    """One that comes whole."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * size}

    async with room.held(name, size, receive) as counted:
        await counted()


def test_an_upload_must_fit(tmp_path: Path, room: upload_quota.UploadQuota) -> None:
    async def run() -> None:
        a_file(tmp_path / "a" / "a.png", 800)
        async with room.held("acme", 200, nothing):
            pass
        with pytest.raises(upload_quota.NoRoom, match="no room"):
            async with room.held("acme", 201, nothing):
                pass
        with pytest.raises(upload_quota.NoRoom, match="fewer files"):
            async with room.held("acme", upload_quota.MAX_UPLOAD_BYTES + 1, nothing):
                pass

    asyncio.run(run())


def test_what_is_on_its_way_has_its_room(tmp_path: Path, room: upload_quota.UploadQuota) -> None:
    async def run() -> None:
        a_file(tmp_path / "a" / "a.png", 600)
        async with room.held("acme", 200, nothing):
            with pytest.raises(upload_quota.NoRoom, match="no room"):
                async with room.held("other", 201, nothing):
                    pass
            async with room.held("other", 200, nothing):
                pass

    asyncio.run(run())


def test_one_name_has_a_quarter_of_it(room: upload_quota.UploadQuota) -> None:
    async def run() -> None:
        await upload(room, "acme", 200)
        async with room.held("acme", 50, nothing):
            with pytest.raises(upload_quota.NoRoom, match="your pictures"):
                async with room.held("acme", 1, nothing):
                    pass
            await upload(room, "other", 250)
        # Of what did not come there is nothing to be kept.
        await upload(room, "acme", 50)

    asyncio.run(run())
