"""The values of open pages, without a browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from producer.page.batches import MAX_IMAGES
from producer.page.visits import MAX_FILE_CHARS, MAX_TEXT, MAX_VISITS, Visits

VISIT = "0" * 32
INPUT, OUTPUT, STATE = "input", "output", "state"


def request(tenant: str = "acme", visit: str = VISIT) -> Any:
    return SimpleNamespace(username=tenant, query_params={"visit": visit})


async def handler(_: Any, value: Any) -> AsyncIterator[Any]:
    """Yield a waiting indicator and an answer; fail, or never answer, on request."""
    yield "waiting", gr.skip()
    if value == "closed":
        await asyncio.sleep(60)
    if value == "fail":
        yield "failed", gr.skip()
        raise gr.Error("no")
    yield f"answer to {value}", len(value)
    yield gr.skip(), gr.skip()


def run(visits: Visits, value: Any, asking: Any = None, **options: Any) -> None:
    recorded = visits.record(handler, [INPUT], [OUTPUT, STATE], **options)

    async def consume() -> None:
        try:
            async with asyncio.timeout(0.2):
                async for _ in recorded(asking or request(), value):
                    pass
        except (gr.Error, TimeoutError):
            pass

    asyncio.run(consume())


def restored(visits: Visits, asking: Any = None) -> dict[Any, Any]:
    values = asyncio.run(visits.restore(asking or request()))
    return {
        component: value
        for component, value in zip(visits.components, values, strict=True)
        if value != gr.skip()
    }


def test_the_last_inputs_and_outputs_are_restored() -> None:
    visits = Visits()
    run(visits, "a")
    run(visits, "bc")
    assert restored(visits) == {INPUT: "bc", OUTPUT: "answer to bc", STATE: 2}


def test_a_waiting_indicator_is_not_stored_unless_the_handler_is_resumable() -> None:
    visits = Visits()
    run(visits, "closed")
    assert restored(visits) == {INPUT: "closed"}
    run(visits, "closed", is_resumable=True)
    assert restored(visits) == {INPUT: "closed", OUTPUT: "waiting"}
    run(visits, "fail")
    assert restored(visits) == {INPUT: "fail", OUTPUT: "failed"}


@pytest.mark.parametrize(
    "stranger",
    [request("globex"), request(visit="1" * 32), request(visit="../x"), request(visit="")],
)
def test_a_visit_is_not_restored_for_others(stranger: Any) -> None:
    visits = Visits()
    run(visits, "a")
    assert restored(visits, stranger) == {}


def test_a_request_without_a_valid_visit_stores_nothing() -> None:
    visits = Visits()
    run(visits, "a", request(visit="0" * 31))
    assert restored(visits, request(visit="0" * 31)) == {}


def test_deleted_files_and_long_texts_are_not_restored(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"image")
    image: Any = {"path": str(tmp_path / "a.png")}
    deleted: Any = {"path": str(tmp_path / "b.png")}
    visits = Visits()
    for value, expected in [
        (image, {**image, "url": f"/gradio_api/file={image['path']}"}),
        ([deleted, image], [{**image, "url": f"/gradio_api/file={image['path']}"}]),
        (deleted, None),
        ([deleted], None),
        ("x" * (MAX_TEXT + 1), None),
    ]:
        run(visits, value)
        assert restored(visits).get(INPUT) == expected


def test_a_tenant_with_many_visits_evicts_only_its_own() -> None:
    visits = Visits()
    run(visits, "a", request("globex"))
    run(visits, "a")
    recorded = visits.record_call(lambda *_: asyncio.sleep(0), [INPUT])

    async def fill() -> None:
        for number in range(MAX_VISITS):
            await recorded(request(visit=f"{number + 1:032x}"), "b")

    asyncio.run(fill())
    assert restored(visits) == {}
    assert restored(visits, request(visit=f"{MAX_VISITS:032x}")) == {INPUT: "b"}
    assert restored(visits, request("globex"))[INPUT] == "a"


def test_files_are_stored_with_their_known_fields_and_in_bounded_number(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"image")
    image = {"path": str(tmp_path / "a.png"), "orig_name": "a.png"}
    visits = Visits()
    run(visits, [{**image, "more": "x" * 10**6}])
    assert restored(visits)[INPUT] == [{**image, "url": f"/gradio_api/file={image['path']}"}]
    for value in ([image] * (MAX_IMAGES + 1), [{**image, "orig_name": "x" * MAX_FILE_CHARS}]):
        run(visits, value)
        assert INPUT not in restored(visits)
