"""Health, readiness and figures."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from producer import Client

from .conftest import Reached


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def figure(text: str, name: str, **labels: str) -> float:
    return samples(text).get((name, frozenset(labels.items())), 0.0)


def test_health_and_readiness_need_no_key(gateway: Reached) -> None:
    for path in ("/healthz", "/readyz"):
        answer = gateway.client(None).get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_requests_are_counted_by_the_routes_template(gateway: Reached) -> None:
    client = gateway.client()
    labels = {"method": "GET", "route": "/v1/jobs/{id}", "status": "404"}
    name = "blipline_gateway_requests_total"
    before = figure(client.get("/metrics").text, name, **labels)
    for number in range(3):
        client.get(f"/v1/jobs/counted-{number}")
    text = client.get("/metrics").text
    assert figure(text, name, **labels) == before + 3
    assert "counted-" not in text
    seconds = "blipline_gateway_request_seconds_count"
    assert figure(text, seconds, method="GET", route="/v1/jobs/{id}") >= 3


def test_paths_that_do_not_exist_are_one_figure(gateway: Reached) -> None:
    client = gateway.client()
    for number in range(20):
        client.get(f"/made-up-{number}")
        client.get(f"/v1/made-up-{number}")
    text = client.get("/metrics").text
    assert "made-up" not in text
    assert figure(text, "blipline_gateway_requests_total", method="GET", route="none", status="404")


def test_open_items_are_told_by_their_queue(gateway: Reached, client: Client) -> None:
    client.submit({"image": "https://images.example.com/cat.jpg"})
    client.submit_batch([{"image": "https://images.example.com/cat.jpg"}] * 40)
    text = gateway.client(None).get("/metrics").text
    assert figure(text, "blipline_open_items", queue="interactive") == 1
    assert figure(text, "blipline_open_items", queue="bulk") == 40


def test_figures_name_no_key(gateway: Reached) -> None:
    gateway.client().get("/v1/queues")
    text = gateway.client(None).get("/metrics").text
    assert "acme" not in text
    assert "blip_" not in text
