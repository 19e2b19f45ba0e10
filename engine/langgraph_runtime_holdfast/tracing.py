"""Traces of requests and runs, sent to where OpenTelemetry's own variables say, and nowhere without them.

The stock server carries a request's trace to the worker that executes its run, and LangChain's tracer makes
spans of the run, its nodes and its model calls. What is added here is who sends them, and the request's span
itself, which hangs below the caller's if it sends a `traceparent`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from langgraph_runtime_holdfast.errors import EngineError

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL: Final = "http/protobuf"
HEADERS: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
LANGSMITH: Final = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2", "LANGCHAIN_TRACING")
# What load balancers and Prometheus ask for all day.
UNTRACED: Final = "/(ok|info|metrics)$"
# Inputs and outputs are attributes, and spans wait in memory while the back end is away.
LONGEST_ATTRIBUTE: Final = "65536"
FLUSH_SECONDS: Final = 5.0
NO: Final = ("false", "0", "no", "off")


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether an environment names a place for traces, and does not switch them off."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER") == "none" or environment.get("OTEL_ENABLED", "").lower() in NO:
        return False
    return any(map(environment.get, ENDPOINTS))


def tracing_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What is to be set beside an environment, so that it traces as it says, and not if it says nothing.

    Raises:
        EngineError: It asks for what cannot be had here.
    """
    if not is_wanted(environment):
        # Unset, the server would trace as soon as there is an API key.
        return {} if any(map(environment.get, LANGSMITH)) else {"LANGSMITH_TRACING": "false"}
    name = next(filter(environment.get, PROTOCOLS), "")
    if name and environment[name] != PROTOCOL:
        raise EngineError(
            f"{name}={environment[name]} in the environment or .env cannot be honoured: traces are sent by "
            f"{PROTOCOL}. Unset it, and let the endpoint be the collector's HTTP port, often 4318."
        )
    _check_address(environment)
    if not _is_installed("opentelemetry.instrumentation.asgi"):
        raise EngineError(
            "OTEL_EXPORTER_OTLP_ENDPOINT in the environment or .env asks for traces, which need "
            "opentelemetry-instrumentation-asgi. Install langgraph-runtime-holdfast[otel], or unset it."
        )
    wanted = {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": LONGEST_ATTRIBUTE}
    if "service.name=" not in environment.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        wanted["OTEL_SERVICE_NAME"] = "holdfast"
    if not any(map(environment.get, LANGSMITH)):
        # To OpenTelemetry alone; whoever sets them chooses LangSmith, or both.
        wanted |= {"LANGSMITH_TRACING": "true", "LANGSMITH_TRACING_MODE": "otel"}
    return {name: value for name, value in wanted.items() if not environment.get(name)}


def _check_address(environment: Mapping[str, str]) -> None:
    """Refuse what OpenTelemetry would only warn of with each batch, the headers' secrets in the warning."""
    for name in ENDPOINTS:
        if environment.get(name) and not environment[name].lower().startswith(("http://", "https://")):
            raise EngineError(
                f"{name} in the environment or .env does not begin with http:// or https://. "
                "Write the address whole, as http://collector:4318."
            )
    for name in HEADERS:
        if any(part.strip() and "=" not in part for part in environment.get(name, "").split(",")):
            raise EngineError(
                f"{name} in the environment or .env is not of the form name=value,name=value. "
                "Separate name and value by =, and write a comma in a value as %2C."
            )


def destinations(environment: Mapping[str, str]) -> Iterator[str]:
    """Say what is sent where, for a complete environment; hosts only, since an address may hold a key."""
    runs = any(environment.get(name, "").lower() == "true" for name in LANGSMITH)
    mode = environment.get("LANGSMITH_TRACING_MODE", "langsmith").lower()
    if is_wanted(environment):
        host = urlsplit(next(filter(None, map(environment.get, ENDPOINTS)))).hostname
        yield f"requests{' and runs' if runs and mode != 'langsmith' else ''} to {host}"
    if runs and mode != "otel":
        yield "runs to LangSmith"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # nor the package that it would be in
        return False


def start_tracing() -> None:
    """Send this process's spans, if its environment wants them; before the stock server is imported."""
    if not is_wanted(os.environ):
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return  # somebody else's, as under `opentelemetry-instrument`
    # Its exit handler is not called where a signal ends the process: `flush_traces` does what it would.
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


async def flush_traces() -> None:
    """Send the spans that wait, of LangSmith's own protocol as well; a place that is away holds up no end."""
    thread = threading.Thread(target=_flush, daemon=True, name="flush-traces")
    thread.start()
    await asyncio.to_thread(thread.join, FLUSH_SECONDS)


def _flush() -> None:
    from langchain_core.tracers.langchain import wait_for_all_tracers
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    wait_for_all_tracers()
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush()


def traced(app: Any) -> Any:
    """Give each request of an ASGI application a span, if the environment wants them."""
    if not is_wanted(os.environ):
        return app
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.metrics import NoOpMeterProvider

    excluded = os.environ.get("OTEL_PYTHON_EXCLUDED_URLS", UNTRACED)
    return OpenTelemetryMiddleware(
        app,
        excluded_urls=excluded,
        exclude_spans=["receive", "send"],  # one for each event of a stream
        meter_provider=NoOpMeterProvider(),  # the server counts by itself
    )
