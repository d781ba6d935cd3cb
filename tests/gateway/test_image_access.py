"""Private images of API keys: prefixes, and the references under them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import httpx
import pytest
import redis

from producer.errors import InvalidInput
from producer.gateway.access.api_keys import ApiKeys
from producer.gateway.access.image_access import ALL_IMAGES, ImageAccess, parse_image_prefix
from producer.gateway.access.key_policy import KeyPolicy
from worker.errors import ItemRejected
from worker.images.files import Files
from worker.images.image_budget import ImageBudget

from .conftest import Reached
from .samples import CAPTION, JSONL, bearer, items_in

CATS = ImageAccess(("file:cats/", "s3://bucket/cats/"))


@pytest.mark.parametrize(
    "reference",
    [
        "file:cats/a.jpg",
        "FILE:cats/a.jpg",
        "file:./cats//a.jpg",
        "file:c%61ts/a.jpg",
        "file:cats%2Fa.jpg",
        "s3://bucket/cats/a.jpg",
        "s3://bucket/cats/deep/a b.jpg",
        "https://host/dogs/a.jpg",
        "HTTP://host/a.jpg",
        "blob:" + "0" * 64,
    ],
)
def test_an_image_under_a_prefix_is_allowed(reference: str) -> None:
    assert CATS.refusal(reference) is None
    assert ALL_IMAGES.refusal(reference) is None


@pytest.mark.parametrize(
    "reference",
    [
        "file:dogs/a.jpg",
        "file:catsanddogs/a.jpg",
        "file:cat",
        "file:",
        "file:cats/../dogs/a.jpg",
        "file:cats/%2e%2e/dogs/a.jpg",
        "file:cats/..%2Fdogs/a.jpg",
        "file:/cats/a.jpg",
        "file:///cats/a.jpg",
        "file://localhost/cats/a.jpg",
        "file://cats/a.jpg",
        "file:%2Fcats/a.jpg",
        "s3://bucket/dogs/a.jpg",
        "s3://bucket/catsanddogs/a.jpg",
        "s3://bucket/cats/../dogs/a.jpg",
        "s3://bucket/cats//../dogs/a.jpg",
        "s3://bucket/cats/./a.jpg",
        "s3://bucket2/cats/a.jpg",
        "S3://bucket/cats/a.jpg",
        "gs://bucket/cats/a.jpg",
        "memory://cats/a.jpg",
    ],
)
def test_another_image_is_refused_with_the_prefixes(reference: str) -> None:
    assert ALL_IMAGES.refusal(reference) is None
    assert "(file:cats/, s3://bucket/cats/)" in (CATS.refusal(reference) or "")


def test_an_absolute_folder_allows_absolute_paths_alone() -> None:
    access = ImageAccess(("file:/srv/cats/",))
    for reference in (
        "file:/srv/cats/a.jpg",
        "file:///srv/cats/a.jpg",
        "file://localhost/srv/cats/a",
    ):
        assert access.refusal(reference) is None
    assert access.refusal("file:srv/cats/a.jpg") is not None
    assert ImageAccess(("file:",)).refusal("file:a.jpg") is None
    assert ImageAccess(("file:",)).refusal("s3://bucket/a.jpg") is not None


#: Parts of paths, and what can be between two of them.
PARTS = ("a", "A", "b", "localhost", "LOCALHOST", ".", "..", "%2e", "%2E%2e", "%61", "%2561", "")
SEPARATORS = ("/", "/", "//", "%2F", "%2f/", "///localhost/")


@pytest.mark.parametrize("seed", range(6))
def test_the_worker_reads_what_a_prefix_allows_in_its_folder_alone(
    tmp_path: Path, seed: int
) -> None:
    # Given a file in each folder of these names, whose content is its folder.
    names = ("a", "A", "b", "localhost", "%61")
    folders = ["", *names, *(f"{first}/{second}" for first in names for second in names)]
    folders += [f"{first}/localhost/b" for first in names]
    for folder in folders:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "x.jpg").write_text(f"{folder}/")
    files, rng = Files(tmp_path, 100), Random(seed)
    starts = ("", "", "/", "//", "///", "//localhost", f"{tmp_path}/", f"//localhost{tmp_path}/")
    admitted = 0
    for prefix in ("a/b", f"{tmp_path}/a/b", "a", "localhost"):
        access = ImageAccess((parse_image_prefix(f"file:{prefix}"),))
        folder = prefix.removeprefix(f"{tmp_path}/")
        for _ in range(300):
            path = "".join(rng.choice(PARTS) + rng.choice(SEPARATORS) for _ in range(4))
            likely = rng.choice((path, f"a//{path}", "a/b/", f"a/b/{path}", "a//localhost/b/"))
            reference = f"{rng.choice(('file', 'FILE'))}:{rng.choice(starts)}{likely}x.jpg"
            if access.refusal(reference) is not None:
                continue
            admitted += 1
            with suppress(ItemRejected):
                content = files.get(reference, ImageBudget(1 << 20).reserve_due())
                assert content.decode().startswith(f"{folder}/"), (prefix, reference)
    assert admitted > 50


@pytest.mark.parametrize(
    "reference",
    [
        "file:a//localhost/b/x.jpg",
        "file:a///b/../x.jpg",
        "file://host/a/b/x.jpg",
        "file:A/b/x.jpg",
        "file:a%252Fb/x.jpg",
    ],
)
def test_a_host_stands_at_the_beginning_alone(reference: str) -> None:
    assert ImageAccess(("file:a/b/",)).refusal(reference) is not None


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("file:cats", "file:cats/"),
        ("file:", "file:"),
        ("s3://bucket", "s3://bucket/"),
        ("gs://bucket/cats/", "gs://bucket/cats/"),
    ],
)
def test_a_prefix_ends_at_the_end_of_a_part(text: str, prefix: str) -> None:
    assert parse_image_prefix(text) == prefix
    assert parse_image_prefix(prefix) == prefix


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "/",
            "cats",
            "file",
            "https://host/",
            "blob:x",
            "s3:/bucket",
            "s3://",
            "S3://bucket/",
        ),
        *("file:cats/../dogs", "file:%2e%2e", "s3://bucket/cats/../dogs/", "s3://bucket//cats"),
    ],
)
def test_another_text_is_no_prefix(text: str) -> None:
    with pytest.raises(InvalidInput, match="file:folder/, s3://bucket/"):
        parse_image_prefix(text)


def test_a_key_reads_only_under_its_prefixes(
    gateway: Reached, connection: redis.Redis, redis_url: str
) -> None:
    http: httpx.Client = gateway.client()
    policy = KeyPolicy(image_prefixes=("file:cats/",))
    http.headers.update(bearer(ApiKeys(connection).create("acme", policy)))
    allowed, denied = ("file:cats/a.jpg", "file:dogs/a.jpg")
    assert http.post("/v1/jobs", json={**CAPTION, "image": allowed}).status_code == 202
    answer = http.post("/v1/jobs", json={**CAPTION, "image": denied})
    assert (answer.status_code, answer.json()["code"]) == (422, "image_blocked")
    assert "file:dogs/a.jpg" in answer.json()["detail"]
    lines = "".join(f'{{"image": "{image}"}}\n' for image in (allowed, denied))
    http.post("/v1/batches", params={"id": "prefixes"}, content=lines, headers=JSONL)
    first, second = items_in(redis_url, "prefixes")
    assert (first["image"], second["error"]["code"]) == (allowed, "image_blocked")
