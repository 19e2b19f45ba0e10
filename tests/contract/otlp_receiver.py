"""What a tracing back end is to its senders: takes OTLP and LangSmith's own protocol, and counts tunnels."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True)
class Span:
    """One span, as it came."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    service: str
    attributes: dict[str, Any]


@dataclass
class Collector:
    """All that came."""

    url: str
    spans: dict[str, Span] = field(default_factory=dict)
    """By id."""
    requests: list[str] = field(default_factory=list)
    """Methods and paths, in order."""
    bodies: list[bytes] = field(default_factory=list)
    """What else than OTLP was sent, as LangSmith has a protocol of its own."""

    def path_of(self, span: Span) -> list[str]:
        """The names from the first span of its trace down to this one."""
        above = self.spans.get(span.parent_id)
        return [*(self.path_of(above) if above else []), span.name]

    def take(self, body: bytes) -> None:
        """Keep the spans of one export."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _attributes(resource.resource)["service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                    self.spans[ids[1]] = Span(span.name, *ids, service, _attributes(span))


def _attributes(holder: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in holder.attributes}


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Listen on a free port for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self._body()
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.requests.append(f"{self.command} {self.path}")
            if self.path == "/v1/traces":
                collector.take(body)
            else:
                collector.bodies.append(body)
            self.send_response(502 if self.command == "CONNECT" else 200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET = do_PATCH = do_CONNECT = answer  # noqa: N815 - the base class's names

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
