"""Traces across the real processes, received by a collector of OTLP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from demo.stack import ROOT, running_gateway, running_redis, running_worker
from demo.tour import pictures
from producer.connection.connect import connect
from producer.gateway.access.api_keys import ApiKeys
from tests.serving import serving

TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID: Final = "b7ad6b7169203331"
#: The steps of a job with one call of the model, in order.
STEPS: Final = ["queue wait", "fetch", "encode", "decode", "store result"]


class Collector(ThreadingHTTPServer):
    """A collector that keeps the spans and the name of their service."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[tuple[str, Span]] = []

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a process send its spans here."""
        url = f"http://127.0.0.1:{self.server_port}"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def wait_for(self, name: str, condition: Callable[[Span], bool]) -> tuple[str, Span]:
        """Wait for a span; return it and its service."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for service, span in list(self.spans):
                if span.name == name and condition(span):
                    return service, span
            time.sleep(0.05)
        raise AssertionError(f"no {name} in {[span.name for _, span in self.spans]}")

    def steps_of(self, parent: Span) -> list[Span]:
        """Return the children of a span in the order of their start."""
        spans = [span for _, span in self.spans if span.parent_span_id == parent.span_id]
        return sorted(spans, key=lambda span: span.start_time_unix_nano)


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(
                a.value.string_value for a in group.resource.attributes if a.key == "service.name"
            )
            for scope in group.scope_spans:
                self.server.spans += [(service, span) for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def stack() -> Iterator[tuple[Collector, httpx.Client, str]]:
    with ExitStack() as stack:
        collector = Collector()
        stack.enter_context(serving(collector))
        url = stack.enter_context(running_redis())
        settings = {**collector.environment, "BLIPLINE_PAGE": "false"}
        gateway = stack.enter_context(running_gateway(url, settings=settings))
        stack.enter_context(running_worker(url, collector.environment))
        with connect(url) as connection:
            key = ApiKeys(connection).create("acme")
        headers = {"Authorization": f"Bearer {key}"}
        http = stack.enter_context(httpx.Client(base_url=gateway, headers=headers, timeout=60))
        yield collector, http, url


def test_one_trace_leads_from_the_request_to_the_stored_result(
    stack: tuple[Collector, httpx.Client, str],
) -> None:
    collector, http, _ = stack
    traceparent = f"00-{TRACE_ID}-{PARENT_ID}-01"
    headers = {"traceparent": traceparent, "Prefer": "wait=50"}
    answer = http.post("/v1/caption", content=pictures()[0].read_bytes(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Request-Id"] == TRACE_ID

    service, job = collector.wait_for("job", lambda span: span.trace_id.hex() == TRACE_ID)
    assert service == "blipline-worker"
    service, submit = collector.wait_for("submit", lambda span: span.span_id == job.parent_span_id)
    assert service == "blipline-gateway"
    _, request = collector.wait_for(
        "POST /v1/caption", lambda span: span.span_id == submit.parent_span_id
    )
    assert request.parent_span_id.hex() == PARENT_ID
    assert {span.trace_id.hex() for span in (job, submit, request)} == {TRACE_ID}

    steps = collector.steps_of(job)
    assert [step.name for step in steps] == STEPS
    for step in steps:
        assert step.start_time_unix_nano <= step.end_time_unix_nano <= job.end_time_unix_nano
    # The engine's clock is converted: its steps lie between the fetch and the result.
    assert steps[2].end_time_unix_nano == pytest.approx(steps[3].start_time_unix_nano, abs=1e6)
    assert steps[3].end_time_unix_nano <= steps[4].start_time_unix_nano + 1e6


def test_a_chunk_of_a_batch_has_a_trace_of_its_own_with_a_link(
    stack: tuple[Collector, httpx.Client, str],
) -> None:
    collector, http, _ = stack
    line = json.dumps({"image": "file:none.png"})
    assert http.post("/v1/batches?id=photos", content=line).status_code == 202
    _, chunk = collector.wait_for("chunk", lambda span: True)
    (link,) = chunk.links
    _, submit = collector.wait_for("submit", lambda span: span.span_id == link.span_id)
    assert submit.trace_id == link.trace_id != chunk.trace_id
    assert chunk.parent_span_id == b""
    names = [step.name for step in collector.steps_of(chunk)]
    assert names == ["queue wait", "fetch", "store result"]


#: A program that submits a job within a span of its own.
PROGRAM = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from producer import Client
trace.set_tracer_provider(TracerProvider())
with Client(sys.argv[1]) as client, trace.get_tracer("app").start_as_current_span("own") as span:
    client.embed(text="a red square").result(timeout=60)
print(f"{span.get_span_context().trace_id:032x}")
"""


def test_a_program_with_opentelemetry_continues_its_trace_in_the_worker(
    stack: tuple[Collector, httpx.Client, str],
) -> None:
    collector, _, url = stack
    command = [sys.executable, "-c", PROGRAM, url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    collector.wait_for("job", lambda span: span.trace_id.hex() == done.stdout.strip())


def test_without_traces_a_message_has_no_header_and_no_tracer_is_imported() -> None:
    program = (
        "import sys\n"
        "from producer import tracing\n"
        "from producer.contract import Queue, Task\n"
        "from producer.ledger.message import task_message\n"
        "tracing.configure('worker')\n"
        "assert 'traceparent' not in task_message('a', Task.CAPTION, Queue.BULK, '')\n"
        "assert tracing.start_span('x') is None and not tracing.is_on()\n"
        # redis-py imports the SDK's metrics if it is installed.
        "assert 'opentelemetry.sdk.trace' not in sys.modules\n"
    )
    environment = {name: value for name, value in os.environ.items() if "OTEL" not in name}
    subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, timeout=60
    )


def test_an_unknown_exporter_is_refused() -> None:
    program = "from producer import tracing; tracing.configure('worker')"
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "zipkin"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert "OTEL_TRACES_EXPORTER='zipkin': choose otlp or none" in done.stderr
