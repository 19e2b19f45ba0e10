"""A real HTTP server that speaks just enough of the LangGraph API, and fails when told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal

import h11

Fault = Literal[
    "status",  # 503 with Retry-After, the request not carried out
    "reset",  # the connection dies before the request is carried out
    "lost",  # carried out, then the connection dies without an answer
    "cut",  # carried out, then the connection dies in the middle of the answer
    "slow",  # carried out, then no answer
]


@dataclass
class FaultyServer:
    """Threads and runs in memory; `faults` are used up by requests that match, the first one first."""

    url: str = ""
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    """(regular expression on "METHOD /path", fault)"""
    threads: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    until_runs_end: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, runs are running, and joins and streams of them stay open."""
    open_connections: int = 0
    most_open_connections: int = 0
    all_closed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _asked: asyncio.Condition = field(default_factory=asyncio.Condition, repr=False)
    _listener: asyncio.Server = field(init=False, repr=False)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set, repr=False)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Carry out a request."""
        if path == "/ok":
            return 200, {"ok": True}
        if (method, path) == ("POST", "/threads"):
            now = datetime.now(UTC).isoformat()
            new = {"created_at": now, "status": "idle", "metadata": {}, **body}
            return 200, self.threads.setdefault(body["thread_id"], new)
        if path == "/threads/search":
            return 200, []
        thread_id = path.split("/")[2]
        if thread_id not in self.threads:
            return 404, {"detail": f"Thread with ID {thread_id} not found"}
        if self.until_runs_end.is_set():
            for run in self.runs:
                run["status"] = "success"
        own = [run for run in reversed(self.runs) if run["thread_id"] == thread_id]
        if path.endswith("/runs") and method == "POST":
            run = {
                "run_id": str(uuid.uuid4()),
                "thread_id": thread_id,
                "assistant_id": body["assistant_id"],
                "metadata": body["metadata"],
                "status": "running",
                "created_at": datetime.now(UTC).isoformat(),
                "updated_at": datetime.now(UTC).isoformat(),
            }
            self.runs.append(run)
            return 200, run
        if path.endswith("/runs"):
            return 200, own
        if path.endswith(("/join", "/stream")):
            return 200, {}
        if path.endswith("/state"):
            return 200, {"values": {"done": True}, "next": [], "tasks": []}
        if path == f"/threads/{thread_id}":
            return 200, self.threads[thread_id]
        if path.endswith("/history"):
            return 200, [{"values": {"done": True}, "next": [], "tasks": []}]
        found = [run for run in own if run["run_id"] == path.rsplit("/", 1)[1]]
        return (200, found[0]) if found else (404, {"detail": "Run not found"})

    def take_fault(self, request: str) -> Fault | None:
        for position, (pattern, fault) in enumerate(self.faults):
            if re.search(pattern, request):
                del self.faults[position]
                return fault
        return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        self.most_open_connections = max(self.most_open_connections, self.open_connections)
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, h11.RemoteProtocolError):
                while await self.serve_one(reader, writer):
                    pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self.open_connections -= 1
            async with self.all_closed:
                self.all_closed.notify_all()

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        parser = h11.Connection(h11.SERVER)
        request, body = None, b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(65536)
                if not data and request is None:
                    return False
                parser.receive_data(data)
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                break
        assert request is not None
        method, path = request.method.decode(), request.target.decode().split("?")[0]
        self.requests.append(f"{method} {path}")
        async with self._asked:
            self._asked.notify_all()
        fault = self.take_fault(f"{method} {path}")
        if fault == "reset":
            return False
        if fault == "status":
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            return True
        if method == "GET" and path.endswith(("/join", "/stream")):
            await self.until_runs_end.wait()
        status, answer = self.answer(method, path, json.loads(body) if body else {})
        if fault == "lost":
            return False
        if fault == "slow":
            await reader.read(1)  # until the client hangs up
            return False
        content = json.dumps(answer).encode()
        head = (
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
            f"date: {format_datetime(datetime.now(UTC), usegmt=True)}\r\n\r\n"
        )
        writer.write(head.encode() + (content[: len(content) // 2] if fault == "cut" else content))
        await writer.drain()
        return fault != "cut"

    async def has_asked(self, pattern: str, *, times: int) -> None:
        """Wait until the client has made so many requests that match."""
        async with asyncio.timeout(30):
            while len([each for each in self.requests if re.search(pattern, each)]) < times:
                async with self._asked:
                    await self._asked.wait()

    async def start(self) -> None:
        """Listen, on the same port each time."""
        port = int(self.url.rsplit(":", 1)[1]) if self.url else 0
        self._listener = await asyncio.start_server(self.serve, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Refuse connections and cut those that are open; `start()` may follow."""
        self._listener.close()
        for writer in self._writers:
            writer.transport.abort()

    async def wait_until_all_closed(self) -> None:
        async with asyncio.timeout(30), self.all_closed:
            await self.all_closed.wait_for(lambda: self.open_connections == 0)


@contextlib.asynccontextmanager
async def faulty_server() -> AsyncIterator[FaultyServer]:
    """Serve on a free port, and check at the end that no connection is left open."""
    faulty = FaultyServer()
    faulty.until_runs_end.set()
    await faulty.start()
    try:
        yield faulty
        await faulty.wait_until_all_closed()
    finally:
        faulty.stop()
