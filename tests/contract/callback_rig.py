"""Servers with an outbox, and a receiver that answers as it is told."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.rows import dict_row

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart, answers_ok
from langgraph_runtime_holdfast.outbox.signing import make_secret
from tests.contract.engines import GRAPHS, SCRIPTS, START_SECONDS, Services, environment

TOKEN = "a-token-for-the-tests"
SECRET = make_secret()
MANIFEST = "langgraph.outbox.json"


@dataclass
class Delivery:
    """A callback as it came."""

    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Receiver(ThreadingHTTPServer):
    """Keeps what comes under each path, and gives the answers laid out for it; then 200.

    An answer is a status with headers, of which `x-say` is the text; the status 0 hangs until `released`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on any free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.came: dict[str, list[Delivery]] = defaultdict(list)
        self.answers: dict[str, list[tuple[int, dict[str, str]]]] = defaultdict(list)
        self.released = threading.Event()

    def url(self, name: str, host: str = "127.0.0.1") -> str:
        """Where to send what is to be kept under the name."""
        return f"http://{host}:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        name = self.path.strip("/")
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.came[name].append(Delivery(headers, body))
        laid_out = self.server.answers[name]
        status, extra = laid_out.pop(0) if laid_out else (200, {})
        if status == 0:
            self.server.released.wait()
            status = 200
        with contextlib.suppress(OSError):  # the sender may have given up
            self.send_response(status)
            for key, value in extra.items():
                self.send_header(key, value)
            said = extra.get("x-say", "").encode()
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def running_receiver() -> Iterator[Receiver]:
    """A receiver for as long as the block lasts."""
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.released.set()
            receiver.shutdown()
            thread.join()


class OutboxServer:
    """A server of the tests, which can be killed and started again on the same database."""

    def __init__(
        self, home: Path, services: Services, database_uri: str, manifest: str = MANIFEST, **variables: str
    ) -> None:
        """Describe it; nothing is started."""
        shutil.copytree(GRAPHS, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        self.home = home
        self.database_uri = database_uri
        self.url = ""
        self._manifest = manifest
        self._environment = environment(
            DATABASE_URI=database_uri,
            REDIS_URI=services.valkey_uri,
            REDIS_KEY_PREFIX=database_uri.rsplit("/", 1)[1] + ":",
            LG_WEBHOOK_TOKEN=TOKEN,
            LG_WEBHOOK_SIGNING_SECRET=SECRET,
            HOLDFAST_LEASE_SECONDS="2",
            HOLDFAST_POLL_SECONDS="0.5",
            HOLDFAST_CALLBACK_TIMEOUT_SECONDS="3",
            HOLDFAST_CALLBACK_CONCURRENCY="8",
            BG_JOB_TIMEOUT_SECS="6",
            BG_JOB_MAX_RETRIES="1",
        )
        self._environment |= variables
        self._part: RunningPart | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        port = choose_ports({"PORT": 0})["PORT"]
        self.url = f"http://127.0.0.1:{port}"
        command = [
            *(str(SCRIPTS / "holdfast"), "serve", "--config", str(self.home / self._manifest)),
            *("--host", "127.0.0.1", "--port", str(port), "--jobs", "4"),
        ]
        self._part = RunningPart(
            Part(
                *("holdfast", command, self._environment, self.home),
                address=self.url,
                is_healthy=partial(answers_ok, port),
                log=self.home / "server.log",
                grace_seconds=20.0,
            )
        )
        self._part.wait_until_healthy(START_SECONDS)

    def kill(self) -> None:
        """Kill it at once, as a machine's loss does."""
        assert self._part is not None
        for process in psutil.Process(self._part.leash_id).children():
            process.kill()
        self.wait()

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        assert self._part is not None
        self._part.wait()

    def stop(self) -> None:
        """End it in order."""
        if self._part is not None:
            self._part.stop()

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """The outbox' rows of a run."""
        with psycopg.connect(self.database_uri, row_factory=dict_row) as connection:
            return connection.execute("SELECT * FROM outbox WHERE run_id = %s", [run_id]).fetchall()

    def cli(self, *arguments: str) -> tuple[list[str], dict[str, str], Path]:
        """The command line of `holdfast callbacks`, its environment and its folder."""
        config = str(self.home / self._manifest)
        command = [str(SCRIPTS / "holdfast"), "callbacks", *arguments, "--config", config]
        return command, {**os.environ, "DATABASE_URI": self.database_uri}, self.home


@contextlib.contextmanager
def running_outbox_server(
    home: Path, services: Services, database_uri: str, manifest: str = MANIFEST, **variables: str
) -> Iterator[OutboxServer]:
    """A server for as long as the block lasts."""
    server = OutboxServer(home, services, database_uri, manifest, **variables)
    try:
        server.start()
        yield server
    finally:
        server.stop()
