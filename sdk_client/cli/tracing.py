"""Where the command's own spans go: to the place that OpenTelemetry's variables name, or nowhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from dotenv import dotenv_values

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")


def send_traces(tell: Callable[[str], None]) -> str | None:
    """Send this process's spans, if the environment or .env names a place for them.

    Args:
        tell: Takes what OpenTelemetry says when that does not work, each thing once.

    Returns:
        Why they are not sent although they should be; None if all is well.
    """
    for name, value in dotenv_values(".env").items():
        if name.startswith("OTEL_") and value:
            os.environ.setdefault(name, value)
    if os.environ.get("OTEL_TRACES_EXPORTER") == "none" or not any(map(os.environ.get, _ENDPOINTS)):
        return None
    if refused := _refused():
        return refused
    _listen(tell)
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces: they need the extra [otel] of the client"
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return None  # as under `opentelemetry-instrument`
    os.environ.setdefault("OTEL_SERVICE_NAME", "holdfast-cli")
    os.environ.setdefault(
        "OTEL_EXPORTER_OTLP_TIMEOUT", "3"
    )  # or a command waits 10 s at its end for a dead place
    provider = TracerProvider()  # sends what is left at the end of the process
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return None


def _refused() -> str | None:
    """Why traces are not sent by these variables; the value of none, since an address may hold a secret."""
    for name in _PROTOCOLS:
        if os.environ.get(name, "http/protobuf") not in ("", "http/protobuf"):
            return f"no traces are sent: {name} must be http/protobuf"
    for name in _ENDPOINTS:
        if not (os.environ.get(name) or "http://").lower().startswith(("http://", "https://")):
            return f"no traces are sent: {name} must begin with http:// or https://"
    for name in _HEADERS:
        if any(part.strip() and "=" not in part for part in os.environ.get(name, "").split(",")):
            return f"no traces are sent: {name} must be of the form name=value,name=value"
    return None


def _listen(tell: Callable[[str], None]) -> None:
    """Take OpenTelemetry's warnings, which would otherwise stand between a command's lines."""
    known: set[str] = set()

    class Teller(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if (said := f"traces: {record.getMessage()}") not in known:
                known.add(said)
                tell(said)

    logger = logging.getLogger("opentelemetry")
    logger.handlers, logger.propagate = [Teller()], False
