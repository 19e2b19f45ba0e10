"""Spans for what the client is asked to do, so that a trace begins with who asks and not with the server.

They go to whatever tracer provider the application has set. Without one, or without OpenTelemetry installed
(the extra `otel`), nothing is recorded, sent, or added to a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import httpx

from sdk_client.models import RunHandle

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True
    _inject = TraceContextTextMapPropagator().inject
    # OTEL_PROPAGATORS may name one that is not installed (b3, xray): no reason to fail or lose the trace.
    with suppress(ImportError, ValueError):
        from opentelemetry.propagate import inject as _inject

# As the server names them on its span of the run.
RUN_ID: Final = "langsmith.run_id"
THREAD_ID: Final = "langsmith.thread_id"


@contextmanager
def operation(name: str) -> Iterator[None]:
    """Make a span of what is done inside; an error that leaves it is the span's."""
    if not AVAILABLE:
        yield
        return
    with trace.get_tracer("holdfast").start_as_current_span(name):
        yield


def note_run(handle: RunHandle) -> None:
    """Write on the current span which run it is about."""
    if AVAILABLE:
        trace.get_current_span().set_attributes({RUN_ID: handle.run_id, THREAD_ID: handle.thread_id})


async def carry(request: httpx.Request) -> None:
    """Send the current trace along with a request; a hook of httpx."""
    if AVAILABLE:
        _inject(request.headers)
