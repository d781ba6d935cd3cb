"""Traces by OpenTelemetry: spans of this process, and the context that messages carry.

A process of Blipline calls `configure`. A program that uses the client configures OpenTelemetry
itself, or not; without it, every function here does nothing, and imports nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ..errors import InvalidInput
from ..extras import install_command

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

#: OpenTelemetry's own variables that turn traces on.
_ON: Final = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


def configure(process: str) -> None:
    """Export the spans of this process if the environment asks for it; raises InvalidInput.

    `process` is its role, a part of the service's name.
    """
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if exporter == "none" or disabled or not any(map(os.environ.get, _ON)):
        return
    if exporter != "otlp":
        raise InvalidInput(f"OTEL_TRACES_EXPORTER={exporter!r}: choose otlp or none")
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise InvalidInput(f"traces need {error.name}: {install_command('tracing')}") from None
    name = os.environ.get("OTEL_SERVICE_NAME") or f"blipline-{process}"
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    # It exports in a thread, and drops spans that its bounded queue cannot take.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def is_on() -> bool:
    """Return whether spans of this process are recorded."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return False
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    return isinstance(trace.get_tracer_provider(), TracerProvider)


def start_span(
    name: str,
    *,
    kind: str = "INTERNAL",
    parent: str | Span | None = None,
    link: str = "",
    start_s: float | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Span | None:
    """Start a span, which its caller ends; None if traces are off.

    `parent` is a span or a `traceparent`, None for the current span, "" for none. `link` is the
    `traceparent` of a related trace; `start_s` is in Unix seconds.
    """
    if not is_on():
        return None
    from opentelemetry import trace

    links = [trace.Link(span.get_span_context()) for span in _remote_spans(link)]
    return trace.get_tracer("blipline").start_span(
        name,
        _context_of(parent),
        trace.SpanKind[kind],
        {key: value for key, value in (attributes or {}).items() if value is not None},
        links,
        None if start_s is None else nanoseconds(start_s),
    )


@contextmanager
def submit_span(attributes: Mapping[str, Any]) -> Iterator[None]:
    """Record the block as the submission of what it enqueues."""
    span = start_span("submit", kind="PRODUCER", attributes=attributes)
    try:
        with current(span):
            yield
    finally:
        if span is not None:
            span.end()


@contextmanager
def current(span: Span | None) -> Iterator[None]:
    """Make a span the parent of the block's spans and messages, and record its exception."""
    if span is None:
        yield
        return
    from opentelemetry import trace

    with trace.use_span(span):
        yield


def traceparent() -> str | None:
    """Return the `traceparent` of the current span, which a message carries; None without one."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def nanoseconds(unix_s: float) -> int:
    """Return a time in the unit of OpenTelemetry."""
    return int(unix_s * 1e9)


def _context_of(parent: str | Span | None) -> Context | None:
    from opentelemetry import trace
    from opentelemetry.context import Context

    if parent is None:
        return None
    spans = _remote_spans(parent) if isinstance(parent, str) else [parent]
    return trace.set_span_in_context(spans[0], Context()) if spans else Context()


def _remote_spans(text: str) -> list[Span]:
    """Return the span of a `traceparent`; none if it is not one."""
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({"traceparent": text}, Context())
    span = trace.get_current_span(context)
    return [span] if span.get_span_context().is_valid else []
