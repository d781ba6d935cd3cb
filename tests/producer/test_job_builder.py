"""JobBuilder: jobs are built from arguments alone, without Redis."""

from __future__ import annotations

import hashlib
import json

import pytest

from producer import InvalidInput
from producer.job_builder import JobBuilder

URL = "https://images.example.com/cat.jpg"


def test_a_job_has_the_payload_of_its_arguments() -> None:
    job = JobBuilder("team").ask(URL, "how many?", max_new_tokens=5)
    assert (job.record.queue, job.record.submitter, job.record.items) == ("interactive", "team", 1)
    assert json.loads(job.record.payload) == {
        "task": "vqa",
        "items": [{"image": URL, "question": "how many?"}],
        "options": {"max_new_tokens": 5},
    }
    assert (job.record.blobs, job.images) == ((), ())


def test_a_local_image_is_named_by_its_hash_and_uploaded_later() -> None:
    job = JobBuilder("").caption(b"bytes of an image")
    sha = hashlib.sha256(b"bytes of an image").hexdigest()
    assert (job.record.blobs, job.images) == ((sha,), (b"bytes of an image",))
    assert json.loads(job.record.payload)["items"] == [{"image": f"blob:{sha}"}]
    assert job.record.submitter == "anyone"


def test_the_digest_of_a_request_is_that_of_earlier_versions() -> None:
    builder = JobBuilder("")
    digests = [
        builder.submit(item, job_id="mine", deadline_s=deadline_s).metadata.digest
        for item in ({"image": URL}, {"image": b"bytes"})
        for deadline_s in (None, 60.0)
    ]
    # Resubmission works across an upgrade.
    images = (URL, hashlib.sha256(b"bytes").hexdigest())
    requests = [json.dumps({"image": image, "task": "caption"}) for image in images]
    url, data = (hashlib.sha256(request.encode()).hexdigest() for request in requests)
    assert digests == [url, url, data, data]


def test_a_job_id_of_the_builder_has_no_digest() -> None:
    job = JobBuilder("").submit({"image": URL}, note="mine", webhook="https://example.com/hook")
    assert (job.metadata.text, job.metadata.digest) == ("mine", "")
    assert job.metadata.webhook == "https://example.com/hook"


def test_an_invalid_argument_builds_nothing() -> None:
    with pytest.raises(InvalidInput, match="question is empty"):
        JobBuilder("").chat(URL, " ")
