"""Blobs: images in Redis."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import redis

from producer.contract import ErrorCode
from producer.ledger.keys import Keys
from tests.images.image_host import (
    calls,
    code_of,
    running_fetcher,
    store_blobs,
)
from worker.images.blobs import BLOB_PAGE
from worker.images.fetcher import FetchResult


def test_blobs_are_read_in_pages(connection: redis.Redis) -> None:
    # Given more than two pages of images, one of them lost
    images = [b"image %d" % number for number in range(2 * BLOB_PAGE + 3)]
    references = store_blobs(connection, images)
    references.insert(BLOB_PAGE, "blob:" + "0" * 64)
    with running_fetcher(connection) as source:
        reads = calls(connection, "getrange")
        result = source.fetch(references)
        # When the first page is used, Then one round trip was made
        first = list(islice(result, BLOB_PAGE))
        assert calls(connection, "getrange") - reads == BLOB_PAGE
        lost, *rest = result
        assert calls(connection, "getrange") - reads == len(references)
    assert code_of(lost) is ErrorCode.IMAGE_UNREACHABLE
    assert [*first, *rest] == images


def test_blobs_are_read_with_the_key_prefix_of_their_deployment(connection: redis.Redis) -> None:
    keys = Keys("here:")
    references = store_blobs(connection, [b"an image"], keys)
    with running_fetcher(connection, keys=keys) as source:
        assert list(source.fetch(references)) == [b"an image"]


def test_the_error_of_an_unknown_blob_says_to_submit_again(
    fetch: Callable[[str], FetchResult],
) -> None:
    result = fetch("blob:" + "0" * 64)
    assert code_of(result) is ErrorCode.IMAGE_UNREACHABLE
    assert "submit the image again" in str(result)
