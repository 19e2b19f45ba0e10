"""The receiver against a real Postgres and a small real HTTP server in the place of the LangGraph server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from starlette.applications import Starlette

from langgraph_runtime_holdfast import pause as pausing
from langgraph_runtime_holdfast.local.postgres import EmbeddedPostgres
from sdk_client.callbacks import CallbackSettings, RunEvent, RunHandler, create_app
from sdk_client.callbacks.database import _SCHEMA, Database
from sdk_client.callbacks.inbox import Inbox

TOKEN = "a-token-for-the-tests"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
RUNS = "/callbacks/runs"


class StandInServer(ThreadingHTTPServer):
    """Answers for a few runs as a LangGraph server would; `mode` says how well it is."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on any free port."""
        super().__init__(("127.0.0.1", 0), _StandInHandler)
        self.runs: dict[str, str] = {}
        self.threads: dict[str, str] = {}
        self.mode = "up"  # up, failing (503), elsewhere (404 for everything), arriving (so once), hanging
        self.asked = Counter[str]()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _StandInHandler(BaseHTTPRequestHandler):
    server: StandInServer

    def do_GET(self) -> None:
        server = self.server
        *_, last = self.path.split("/")
        server.asked[last] += 1
        if server.mode == "hanging":
            server.released.wait()
        if server.mode == "failing":
            return self._answer(503, {"detail": "no"})
        if server.mode == "arriving":
            server.mode = "up"
            return self._answer(404, {"detail": "not found"})
        if self.path == "/ok" and server.mode == "up":
            return self._answer(200, {"ok": True})
        known = server.runs if "/runs/" in self.path else server.threads
        if server.mode == "up" and last in known:
            return self._answer(200, {"run_id": last, "status": known[last]})
        return self._answer(404, {"detail": "not found"})

    def _answer(self, status_code: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status_code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    running = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), port=free_port())
    try:
        running.start()
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


@pytest.fixture
def database_uri(postgres: EmbeddedPostgres) -> str:
    """An empty database of the test's own."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return re.sub(r"/\w+$", f"/{name}", postgres.uri)


@pytest.fixture
def server() -> Iterator[StandInServer]:
    with StandInServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def settings(database_uri: str, server: StandInServer) -> CallbackSettings:
    return CallbackSettings.model_validate(
        {
            "webhook_token": TOKEN,
            "database_uri": database_uri,
            "server_url": server.url,
            "poll_seconds": 0.1,
            "verify_timeout_seconds": 5,
        }
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def receiver(settings: CallbackSettings, on_run: RunHandler) -> AsyncIterator[httpx.AsyncClient]:
    app: Starlette = create_app(settings, on_run=on_run)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://receiver", headers=AUTHORIZED) as http,
    ):
        yield http


def webhook(
    server: StandInServer, true_status: str | None = "success", thread: str = "idle"
) -> dict[str, Any]:
    """A webhook that claims success for a new run; without a true status it is forged."""
    run_id, thread_id = str(uuid.uuid4()), str(uuid.uuid4())
    if true_status is not None:
        server.runs[run_id] = true_status
        server.threads[thread_id] = thread
    return {"run_id": run_id, "thread_id": thread_id, "status": "success", "kwargs": {"input": "private"}}


async def row_once(
    http: httpx.AsyncClient, run_id: str, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Wait until the only row of a run is as wanted."""
    rows: list[dict[str, Any]] = []

    async def look() -> bool:
        nonlocal rows
        answer = await http.get(f"{RUNS}/{run_id}")
        rows = answer.json()["callbacks"] if answer.status_code == 200 else []
        return len(rows) == 1 and wanted(rows[0])

    await until(look, lambda: rows)
    return rows[0]


async def until(condition: Callable[[], Awaitable[bool]], shown: Callable[[], object] = str) -> None:
    try:
        async with asyncio.timeout(60):
            while not await condition():  # noqa: ASYNC110 - the condition is in another process
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"never came true: {shown()}")


async def ignore(event: RunEvent) -> None:
    """A handler for tests that look at rows only."""


async def delivered(http: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    """Deliver as senders do: what a busy database has no time for (503) comes again."""
    async with asyncio.timeout(60):
        while (answer := await http.post(RUNS, json=body)).status_code == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert answer.status_code == 200
    return answer


async def test_fifty_deliveries_to_two_receivers_are_one_row_and_one_event(
    settings: CallbackSettings, server: StandInServer
) -> None:
    events: list[RunEvent] = []

    async def keep(event: RunEvent) -> None:
        events.append(event)

    sent = webhook(server)
    async with receiver(settings, keep) as one, receiver(settings, keep) as two:
        answers = await asyncio.gather(*(delivered((one, two)[i % 2], sent) for i in range(50)))
        # A 503 may have come after its row: then that one is a duplicate when it comes again, and counted twice.
        assert sum(not answer.json()["duplicate"] for answer in answers) <= 1
        row = await row_once(one, sent["run_id"], lambda row: row["state"] == "handled")
        assert row["deliveries"] >= 50
        assert "private" not in (await one.get(RUNS)).text
    assert [(event.run_id, event.thread_id) for event in events] == [(sent["run_id"], sent["thread_id"])]


async def test_a_webhook_is_known_again_by_its_id_also_in_a_table_that_had_none(
    settings: CallbackSettings, server: StandInServer
) -> None:
    old = _SCHEMA.replace("ALTER TABLE callbacks.inbox ADD COLUMN IF NOT EXISTS webhook_id text;", "")
    old = re.sub(r"CREATE INDEX IF NOT EXISTS inbox_webhook[^;]*;", "", old)
    assert "webhook_id" not in old
    with psycopg.connect(settings.database_uri.get_secret_value()) as connection:
        connection.execute(old)
    sent, other = webhook(server), webhook(server)
    async with receiver(settings, ignore) as http:
        for body, identity, duplicate in ((sent, "one", False), (sent, "one", True), (other, "one", True)):
            answer = await http.post(RUNS, json=body, headers={"webhook-id": identity})
            assert answer.json() == {"duplicate": duplicate}
        # Another webhook about the same event is no second event either.
        assert (await http.post(RUNS, json=sent, headers={"webhook-id": "two"})).json() == {"duplicate": True}
        row = await row_once(http, sent["run_id"], lambda row: row["state"] == "handled")
        assert (row["webhook_id"], row["deliveries"]) == ("one", 4)
        assert (await http.get(f"{RUNS}/{other['run_id']}")).status_code == 404


@pytest.mark.parametrize(
    ("true_status", "thread", "awaits_approval"),
    [("error", "error", False), ("success", "interrupted", True), ("interrupted", "interrupted", False)],
)
async def test_the_server_is_believed_and_not_the_body(
    settings: CallbackSettings, server: StandInServer, true_status: str, thread: str, awaits_approval: bool
) -> None:
    events: list[RunEvent] = []

    async def keep(event: RunEvent) -> None:
        events.append(event)

    sent = webhook(server, true_status, thread)
    async with receiver(settings, keep) as http:
        await http.post(RUNS, json=sent)
        row = await row_once(http, sent["run_id"], lambda row: row["state"] == "handled")
    assert (row["reported_status"], row["status"]) == ("success", true_status)
    assert row["awaits_approval"] is awaits_approval
    assert (events[0].status, events[0].awaits_approval) == (true_status, awaits_approval)


async def test_a_forged_run_is_unknown_until_the_server_knows_it(
    settings: CallbackSettings, server: StandInServer
) -> None:
    events: list[RunEvent] = []

    async def keep(event: RunEvent) -> None:
        events.append(event)

    sent = webhook(server, true_status=None)
    async with receiver(settings, keep) as http:
        await http.post(RUNS, json=sent)
        await row_once(http, sent["run_id"], lambda row: row["state"] == "unknown")
        assert not events
        server.runs[sent["run_id"]], server.threads[sent["thread_id"]] = "success", "idle"
        await http.post(RUNS, json=sent)
        await row_once(http, sent["run_id"], lambda row: row["state"] == "handled")
        assert (await http.get(f"{RUNS}/{uuid.uuid4()}")).status_code == 404


@pytest.mark.parametrize("mode", ["failing", "elsewhere"])
async def test_an_unreachable_server_costs_time_and_no_row(
    settings: CallbackSettings, server: StandInServer, mode: str
) -> None:
    server.mode = mode
    sent, unfinished = webhook(server), webhook(server, "running")
    async with receiver(settings, ignore) as http:
        for body in (sent, unfinished):
            await http.post(RUNS, json=body)
        row = await row_once(http, sent["run_id"], lambda row: bool(row["last_error"]))
        assert row["state"] == "received"
        server.mode = "up"
        row = await row_once(http, sent["run_id"], lambda row: row["state"] == "handled")
        assert row["verify_attempts"] > 1
        await row_once(http, unfinished["run_id"], lambda row: "running" in str(row["last_error"]))
        server.runs[unfinished["run_id"]] = "error"
        await row_once(http, unfinished["run_id"], lambda row: row["status"] == "error")


async def test_a_server_that_comes_between_two_questions_loses_no_run(
    settings: CallbackSettings, server: StandInServer
) -> None:
    """A proxy says that there is no such run, and then the server behind it that it is well."""
    server.mode = "arriving"
    sent = webhook(server)
    async with receiver(settings, ignore) as http:
        await http.post(RUNS, json=sent)
        row = await row_once(http, sent["run_id"], lambda row: row["state"] != "received")
        assert row["state"] in ("verified", "handled")


async def test_a_failing_handler_is_called_again(settings: CallbackSettings, server: StandInServer) -> None:
    calls = 0

    async def third_time_lucky(event: RunEvent) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise RuntimeError(f"call {calls} fails")

    sent = webhook(server)
    async with receiver(settings, third_time_lucky) as http:
        await http.post(RUNS, json=sent)
        row = await row_once(http, sent["run_id"], lambda row: row["state"] == "handled")
    assert calls == row["handler_attempts"] == 3
    assert row["last_error"] == "RuntimeError: call 2 fails"


async def test_a_database_that_hangs_gives_503_and_takes_up_again(
    settings: CallbackSettings, server: StandInServer, postgres: EmbeddedPostgres
) -> None:
    sent, refused = webhook(server), webhook(server)
    async with receiver(settings, ignore) as http:
        await http.post(RUNS, json=sent)
        with frozen(postgres):
            async with asyncio.timeout(20):  # less than a second each, on a machine that does nothing else
                answers = await asyncio.gather(http.post(RUNS, json=refused), http.get("/ok"))
            assert [answer.status_code for answer in answers] == [503, 503]
            assert answers[0].headers["retry-after"] == "1"
        await until_ok(http)
        assert (await http.post(RUNS, json=refused)).status_code == 200
        for body in (sent, refused):
            await row_once(http, body["run_id"], lambda row: row["state"] == "handled")


async def test_a_restarted_database_is_found_again_with_every_row(
    settings: CallbackSettings, server: StandInServer, postgres: EmbeddedPostgres
) -> None:
    sent, later = webhook(server), webhook(server)
    async with receiver(settings, ignore) as http:
        await http.post(RUNS, json=sent)
        await row_once(http, sent["run_id"], lambda row: row["state"] == "handled")
        await asyncio.to_thread(postgres.stop)
        try:
            assert (await http.post(RUNS, json=later)).status_code == 503
        finally:
            await asyncio.to_thread(postgres.start)
            await asyncio.to_thread(postgres.wait_until_ready)
        await until_ok(http)
        assert (await http.post(RUNS, json=later)).json() == {"duplicate": False}
        assert (await http.post(RUNS, json=sent)).json() == {"duplicate": True}


async def test_only_finished_rows_grow_too_old(settings: CallbackSettings, server: StandInServer) -> None:
    done, due = webhook(server), webhook(server, "running")
    async with receiver(settings, ignore) as http:
        for body in (done, due):
            await http.post(RUNS, json=body)
        await row_once(http, done["run_id"], lambda row: row["state"] == "handled")
        database = Database(settings.database_uri.get_secret_value(), wait_seconds=5)
        await database.open()
        try:
            assert await Inbox(database).delete_old(age_days=1, limit=10) == 0
            assert await Inbox(database).delete_old(age_days=0, limit=10) == 1
        finally:
            await database.close()
        left = (await http.get(RUNS, params={"limit": 10})).json()["callbacks"]
    assert [row["run_id"] for row in left] == [due["run_id"]]


async def test_while_the_deployment_is_paused_nothing_is_handled(
    settings: CallbackSettings, server: StandInServer
) -> None:
    """A copy of a deployment must not do again what its handlers did."""
    calls: list[str] = []

    async def on_run(event: RunEvent) -> None:
        calls.append(event.run_id)

    pause = Path(pausing.__file__).with_name("migrations") / "0006_pause.sql"
    with psycopg.connect(settings.database_uri.get_secret_value(), autocommit=True) as connection:
        connection.execute(pause.read_bytes())
        connection.execute(pausing.BEGIN.encode(), {"reason": "a copy"})
        async with receiver(settings, on_run) as http:
            body = webhook(server)
            assert (await http.post(RUNS, json=body)).status_code == 200
            await asyncio.sleep(1.0)
            assert (calls, server.asked[body["run_id"]]) == ([], 0)
            connection.execute(pausing.END.encode())
            await row_once(http, body["run_id"], lambda row: row["state"] == "handled")
    assert calls == [body["run_id"]]


async def test_many_receivers_may_start_on_an_empty_database(database_uri: str) -> None:
    await asyncio.gather(*(Database(database_uri, wait_seconds=10).prepare() for _ in range(8)))


async def test_a_row_stored_before_a_kill_is_verified_after_the_restart(
    settings: CallbackSettings, server: StandInServer, tmp_path: Path
) -> None:
    server.mode = "hanging"
    sent = webhook(server)
    async with httpx.AsyncClient(headers=AUTHORIZED) as http:
        with receiver_process(settings, tmp_path) as (process, url):
            http.base_url = httpx.URL(url)
            await until_ok(http)
            stranger = await httpx.AsyncClient().post(f"{url}{RUNS}", json=sent)
            assert (stranger.status_code, stranger.headers["www-authenticate"]) == (401, "Bearer")
            assert (await http.post(RUNS, content=endless())).status_code == 413
            assert (await http.post(RUNS, json=sent)).status_code == 200
            await until(lambda: asked(server, sent["run_id"]))  # so the row is claimed and in work
            process.send_signal(signal.SIGKILL)
            process.wait()
        server.mode = "up"
        with receiver_process(settings, tmp_path) as (process, url):
            http.base_url = httpx.URL(url)
            await until_ok(http)
            row = await row_once(http, sent["run_id"], lambda row: row["state"] == "handled")
            assert row["deliveries"] == 1
            process.terminate()
            # uvicorn shuts down in order and then ends by the signal it was sent.
            assert process.wait(timeout=15) == -signal.SIGTERM
        log = (tmp_path / "receiver.log").read_text()
        assert f"run ended run_id={sent['run_id']}" in log
        assert "Application shutdown complete" in log
        assert TOKEN not in log
        assert "private" not in log


def test_without_a_database_the_start_fails_in_one_line(settings: CallbackSettings, tmp_path: Path) -> None:
    gone = {
        "CALLBACKS_DATABASE_URI": "postgresql://u:s3cret@127.0.0.1:1/d",
        "CALLBACKS_DATABASE_WAIT_SECONDS": "0",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "sdk_client.callbacks"],
        env={**process_environment(settings), **gone},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("callbacks: Postgres did not answer within 0 s")
    assert ended.stderr.count("\n") == 1
    assert "s3cret" not in ended.stderr


async def asked(server: StandInServer, run_id: str) -> bool:
    return server.asked[run_id] > 0


async def endless() -> AsyncIterator[bytes]:
    for _ in range(64):
        yield b" " * 65536


async def until_ok(http: httpx.AsyncClient) -> None:
    async def ok() -> bool:
        try:
            return (await http.get("/ok")).status_code == 200
        except httpx.TransportError:
            return False

    await until(ok)


@contextmanager
def frozen(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Stop every process of a Postgres without ending it, as an exhausted machine would."""
    parent = int((postgres.data / "postmaster.pid").read_text().split()[0])
    os.kill(parent, signal.SIGSTOP)  # first, so that it starts no more children
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [line.split() for line in listed.stdout.splitlines()]
    stopped = [int(child) for child, its_parent in pairs if int(its_parent) == parent]
    try:
        for process_id in stopped:
            os.kill(process_id, signal.SIGSTOP)
        yield
    finally:
        for process_id in [*stopped, parent]:
            os.kill(process_id, signal.SIGCONT)


def process_environment(settings: CallbackSettings) -> dict[str, str]:
    return {
        **os.environ,
        "LG_WEBHOOK_TOKEN": TOKEN,
        "CALLBACKS_DATABASE_URI": settings.database_uri.get_secret_value(),
        "HOLDFAST_URL": settings.server_url,
        "CALLBACKS_POLL_SECONDS": "0.1",
        # The lease of a row in work is a little longer than these.
        "CALLBACKS_VERIFY_TIMEOUT_SECONDS": "1",
        "CALLBACKS_HANDLER_TIMEOUT_SECONDS": "1",
    }


@contextmanager
def receiver_process(
    settings: CallbackSettings, folder: Path
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    command = [sys.executable, "-m", "sdk_client.callbacks", "--port", str(port)]
    with (folder / "receiver.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=process_environment(settings), cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()
