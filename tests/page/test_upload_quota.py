"""Disk quota of uploads."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from starlette.types import Message

from producer.page import upload_quota


def make_file(path: Path, size: int, age_s: float = 0.0) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    for entry in (path, path.parent):
        os.utime(entry, (time.time() - age_s,) * 2)
    return path


def test_stale_files_are_deleted_and_the_others_counted(tmp_path: Path) -> None:
    fresh = make_file(tmp_path / "a" / "fresh.png", 100)
    old = make_file(tmp_path / "b" / "old.png", 1000, upload_quota.STALE_S + 60)
    assert upload_quota.delete_stale(str(tmp_path)) == 100
    assert fresh.exists()
    assert not old.exists()


@pytest.fixture
def quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> upload_quota.UploadQuota:
    """Return a quota of 1000 bytes, of which a tenant may use 250."""
    monkeypatch.setattr(upload_quota, "MAX_STORED_BYTES", 1000)
    return upload_quota.UploadQuota(str(tmp_path), 3600)


async def nothing() -> Message:
    """Fail, as the upload sends nothing."""
    raise AssertionError


async def upload(quota: upload_quota.UploadQuota, name: str, size: int) -> None:
    """Upload a file of `size` bytes."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * size}

    async with quota.reserve(name, size, receive) as counted:
        await counted()


def test_an_upload_must_fit_into_the_storage(
    tmp_path: Path, quota: upload_quota.UploadQuota
) -> None:
    async def run() -> None:
        make_file(tmp_path / "a" / "a.png", 800)
        async with quota.reserve("acme", 200, nothing):
            pass
        with pytest.raises(upload_quota.QuotaExceeded, match="storage is full"):
            async with quota.reserve("acme", 201, nothing):
                pass
        with pytest.raises(upload_quota.QuotaExceeded, match="fewer files"):
            async with quota.reserve("acme", upload_quota.MAX_UPLOAD_BYTES + 1, nothing):
                pass

    asyncio.run(run())


def test_running_uploads_have_a_reservation(
    tmp_path: Path, quota: upload_quota.UploadQuota
) -> None:
    async def run() -> None:
        make_file(tmp_path / "a" / "a.png", 600)
        async with quota.reserve("acme", 200, nothing):
            with pytest.raises(upload_quota.QuotaExceeded, match="storage is full"):
                async with quota.reserve("globex", 201, nothing):
                    pass
            async with quota.reserve("globex", 200, nothing):
                pass

    asyncio.run(run())


def test_a_tenant_has_a_quarter_of_the_storage(quota: upload_quota.UploadQuota) -> None:
    async def run() -> None:
        await upload(quota, "acme", 200)
        async with quota.reserve("acme", 50, nothing):
            with pytest.raises(upload_quota.QuotaExceeded, match="fill your quota"):
                async with quota.reserve("acme", 1, nothing):
                    pass
            await upload(quota, "globex", 250)
        # The upload without content has released its reservation.
        await upload(quota, "acme", 50)

    asyncio.run(run())
