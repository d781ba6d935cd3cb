"""Traces across the real processes, received by a collector of OTLP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Final

import httpx
import pytest

from demo.stack import ROOT
from tests.system.collector import Collector
from tests.system.conftest import Stack
from tests.system.reference import noise

TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
BATCH_TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319d"
PARENT_ID: Final = "b7ad6b7169203331"
#: The steps of a job with one call of the model, in order.
STEPS: Final = ["queue wait", "fetch", "encode", "decode", "store result"]


def test_one_trace_leads_from_the_request_to_the_stored_result(
    collector: Collector, gateway: httpx.Client
) -> None:
    traceparent = f"00-{TRACE_ID}-{PARENT_ID}-01"
    headers = {"traceparent": traceparent, "Prefer": "wait=50"}
    answer = gateway.post("/v1/caption", content=noise(), headers=headers)
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
    collector: Collector, gateway: httpx.Client
) -> None:
    line = json.dumps({"image": "file:none.png"})
    headers = {"traceparent": f"00-{BATCH_TRACE_ID}-{PARENT_ID}-01"}
    assert gateway.post("/v1/batches?id=traced", content=line, headers=headers).status_code == 202
    _, chunk = collector.wait_for(
        "chunk",
        lambda span: BATCH_TRACE_ID in [link.trace_id.hex() for link in span.links],
    )
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
    collector: Collector, stack: Stack
) -> None:
    command = [sys.executable, "-c", PROGRAM, stack.redis_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    collector.wait_for("job", lambda span: span.trace_id.hex() == done.stdout.strip())


def test_without_traces_a_message_has_no_header_and_no_tracer_is_imported() -> None:
    program = (
        "import sys\n"
        "from producer.observability import tracing\n"
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
    program = "from producer.observability import tracing; tracing.configure('worker')"
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "zipkin"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert "OTEL_TRACES_EXPORTER='zipkin': choose otlp or none" in done.stderr
