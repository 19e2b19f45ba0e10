"""Where the command's own spans go: to the place that OpenTelemetry's variables name, or nowhere."""

from __future__ import annotations

import os

from dotenv import dotenv_values

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def send_traces() -> str | None:
    """Send this process's spans, if the environment or .env names a place for them.

    Returns:
        Why they are not sent although they should be; None if all is well.
    """
    for name, value in dotenv_values(".env").items():
        if name.startswith("OTEL_") and value:
            os.environ.setdefault(name, value)
    if os.environ.get("OTEL_TRACES_EXPORTER") == "none" or not any(map(os.environ.get, _ENDPOINTS)):
        return None
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
