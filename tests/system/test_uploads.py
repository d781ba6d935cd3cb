"""Images that are uploaded through the gateway, captioned by a real worker."""

from __future__ import annotations

import httpx

from demo.samples import IMAGES
from producer import Client
from tests.gateway.samples import JSONL, events_of, lines_of


def test_a_batch_of_uploaded_images_is_captioned(gateway: httpx.Client, user: Client) -> None:
    pictures = sorted(IMAGES.glob("scene-*"))
    assert pictures
    lines = []
    for picture in pictures:
        kind = {"Content-Type": "application/octet-stream"}
        uploaded = gateway.post("/v1/images", content=picture.read_bytes(), headers=kind).json()
        lines.append(f'{{"custom_id": "{picture.name}", "image": "{uploaded["image"]}"}}\n')
    answer = gateway.post("/v1/batches?id=photos", content="".join(lines).encode(), headers=JSONL)
    assert answer.status_code == 202, answer.text
    with gateway.stream("GET", "/v1/batches/photos/events") as stream:
        events = list(events_of(stream))
    texts = {
        event.data["custom_id"]: event.data["text"] for event in events if event.name == "result"
    }
    assert events[-1].name == "end"
    assert events[-1].data["status"] == "done"
    read = lines_of(gateway.get("/v1/batches/photos/results"))
    assert [line["custom_id"] for line in read] == [picture.name for picture in pictures]
    assert {line["custom_id"]: line["text"] for line in read} == texts
    results = user.batch("acme.batch.photos").results(timeout=10)
    assert {result.custom_id: result.text for result in results} == texts
    assert all(texts.values())
