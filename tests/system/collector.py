"""A collector of OTLP, which receives the spans of the system's processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


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
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "500"}

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
