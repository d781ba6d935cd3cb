"""JobBuilder: jobs are built from arguments alone, without Redis."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest

from producer import InvalidInput
from producer.client.job_builder import JobBuilder

URL = "https://images.example.com/cat.jpg"
BUILDER = JobBuilder("")


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


def test_capfilt_carries_what_differs_from_its_defaults() -> None:
    def item(**fields: Any) -> Any:
        job = BUILDER.capfilt(URL, "a cat", **fields)
        payload = json.loads(job.record.payload)
        assert payload["task"] == "capfilt"
        return payload["items"][0]

    assert item() == {"image": URL, "texts": ["a cat"]}
    assert item(captions=0, threshold=1)["threshold"] == 1.0
    terms = {"captions": 3, "threshold": 0.25, "synthetic_threshold": 0.5}
    assert item(**terms) == {"image": URL, "texts": ["a cat"], **terms}


def test_an_adapter_is_a_field_of_each_item_that_generates_text() -> None:
    built = [
        BUILDER.caption(URL, adapter="red"),
        BUILDER.ask(URL, "why?", adapter="red"),
        BUILDER.chat(URL, "why?", adapter="red"),
        BUILDER.describe(URL, adapter="red"),
        BUILDER.capfilt(URL, "a cat", adapter="red"),
        BUILDER.submit({"image": URL, "adapter": "red"}),
    ]
    items = [json.loads(job.record.payload)["items"][0] for job in built]
    assert [item["adapter"] for item in items] == ["red"] * len(built)
    assert "adapter" not in json.loads(BUILDER.caption(URL).record.payload)["items"][0]
    for wrong in ("", "two words", "a" * 65, 5):
        with pytest.raises(InvalidInput, match=r"adapter=.*BLIPLINE_ADAPTERS"):
            BUILDER.ask(URL, "why?", adapter=wrong)  # type: ignore[arg-type]


def test_a_result_of_capfilt_is_estimated_with_its_captions() -> None:
    few, many = (BUILDER.capfilt(URL, "a cat", captions=count) for count in (0, 16))
    assert many.record.result_bytes > few.record.result_bytes > 0
    # An item of a batch may hold anything
    for captions in ("many", -1, 1e300, None):
        item = {"image": URL, "texts": ["a cat"], "captions": captions}
        assert BUILDER.submit(item, "capfilt").record.result_bytes > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"captions": 17}, "captions=17: choose 0 to 16"),
        ({"captions": -1}, "captions=-1"),
        ({"captions": True}, "captions=True"),
        ({"captions": 1.5}, "captions=1.5"),
        ({"threshold": 1.1}, "threshold=1.1: choose a probability"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"threshold": "0.5"}, "threshold='0.5'"),
        ({"synthetic_threshold": -0.1}, "synthetic_threshold=-0.1"),
        ({"texts": []}, "1 to 256"),
        ({"texts": [" "]}, "text is empty"),
        ({"texts": 5}, "texts: a list"),
        ({"top_p": 0}, "top_p"),
    ],
)
def test_an_invalid_argument_of_capfilt_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        BUILDER.capfilt(URL, **{"texts": ["a cat"], **fields})
