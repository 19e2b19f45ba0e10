"""`holdfast serve`: one command, on its own Postgres and Valkey or on given ones, in one role or in all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from langgraph_runtime_holdfast.local.postgres import EmbeddedPostgres
from langgraph_runtime_holdfast.local.valkey import EmbeddedValkey

DEADLINE_SECONDS = 180.0
COMMAND = [sys.executable, "-m", "langgraph_runtime_holdfast", "serve"]
AUTHORISED = {"x-api-key": "the-key"}
GRAPH = """
from typing import TypedDict
from langgraph.graph import END, START, StateGraph

class State(TypedDict):
    text: str

async def reverse(state: State) -> State:
    return {"text": state["text"][::-1]}

graph = StateGraph(State).add_node(reverse).add_edge(START, "reverse").add_edge("reverse", END).compile()
"""
AUTH = """
from langgraph_sdk import Auth

auth = Auth()

@auth.authenticate
async def authenticate(headers):
    if headers.get(b"x-api-key") != b"the-key":
        raise Auth.exceptions.HTTPException(status_code=401, detail="Send the key.")
    return {"identity": "somebody"}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "graph.py").write_text(GRAPH)
    (tmp_path / "auth.py").write_text(AUTH)
    manifest = {
        "dependencies": ["."],
        "graphs": {"reverse": "./graph.py:graph"},
        "auth": {"path": "./auth.py:auth"},
    }
    (tmp_path / "langgraph.json").write_text(json.dumps(manifest))
    return tmp_path


@pytest.fixture
def services(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of servers that share one Postgres and one Valkey."""
    with ExitStack() as held:
        postgres, valkey = EmbeddedPostgres(tmp_path / "postgres"), EmbeddedValkey(tmp_path / "valkey")
        for service in (postgres, valkey):
            held.callback(service.stop)
            service.start()
            service.wait_until_ready()
        yield {"DATABASE_URI": postgres.uri, "REDIS_URI": valkey.uri}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def environment(given: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URI", "POSTGRES_URI")}
    return kept | given


@contextmanager
def serving(
    project: Path, *options: str, **given: str
) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """A server that answers, and its process, which is ended for sure."""
    port = free_port()
    with (project / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "--port", str(port), *options],
            cwd=project,
            env=environment(given),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=AUTHORISED, timeout=30) as client:
        try:
            wait_for(lambda: answers(client, process), "the server")
            yield client, process
        finally:
            left = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()
            process.wait()
            psutil.wait_procs(left, timeout=DEADLINE_SECONDS)


def answers(client: httpx.Client, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the server ended"
    try:
        return client.get("/ok").is_success
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.05)


def run(client: httpx.Client, path: str, text: str) -> object:
    body = {"assistant_id": "reverse", "input": {"text": text}}
    return client.post(path, json=body).raise_for_status().json()


def test_threads_are_there_again_after_everything_was_killed(project: Path) -> None:
    # Short: the server is ended while its Postgres is gone too, and gives up waiting for a connection.
    with serving(project, HOLDFAST_POOL_TIMEOUT_SECONDS="1") as (client, process):
        thread = client.post("/threads", json={}).raise_for_status().json()["thread_id"]
        assert run(client, f"/threads/{thread}/runs/wait", "once") == {"text": "ecno"}
        # The bypass for Studio, which `langgraph dev` has, is not there.
        for headers in ({"x-auth-scheme": "langsmith"}, {}):
            answer = httpx.get(client.base_url.join(f"/threads/{thread}"), headers=headers)
            assert answer.status_code == 401
        started = psutil.Process(process.pid).children(recursive=True)
        assert {"postgres", "valkey-server"} <= {each.name() for each in started}
        process.kill()
        _, alive = psutil.wait_procs(started, timeout=DEADLINE_SECONDS)
        assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]

    with serving(project) as (client, process):
        state = client.get(f"/threads/{thread}/state").raise_for_status().json()
        assert state["values"] == {"text": "ecno"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("change", "options", "given", "expected"),
    [
        (
            ("auth.py", "import no_such_module"),
            (),
            {},
            "ModuleNotFoundError: No module named 'no_such_module' (auth.py, line 1)",
        ),
        (("auth.py", AUTH), (), {}, "Postgres at 127.0.0.1:9, database d cannot be used"),
        (("auth.py", AUTH), ("--workers", "2"), {}, "Postgres at 127.0.0.1:9, database d cannot be used"),
        (("auth.py", AUTH), ("--role", "queue"), {}, "Postgres at 127.0.0.1:9, database d cannot be used"),
        (
            ("auth.py", AUTH),
            (),
            {"DATABASE_URI": "mysql://u:hidden@h/d"},
            "DATABASE_URI begins with mysql://",
        ),
        (
            ("auth.py", AUTH),
            (),
            {"REDIS_URI": "", "REDIS_URL": "redis://h"},
            "not set; REDIS_URL is set instead",
        ),
        (
            ("auth.py", AUTH),
            (),
            {"REDIS_URI": "http://h", "HOLDFAST_DATABASE_WAIT_SECONDS": "300"},
            "REDIS_URI cannot be used",
        ),
        (("auth.py", AUTH), ("--role", "queue"), {"DATABASE_URI": ""}, "--role queue shares a database"),
        (("auth.py", AUTH), ("--role", "api", "--jobs", "2"), {}, "--jobs is for what executes runs"),
    ],
)
def test_a_start_that_cannot_be_says_why_and_never_the_password(
    project: Path, change: tuple[str, str], options: tuple[str, ...], given: dict[str, str], expected: str
) -> None:
    (project / change[0]).write_text(change[1])
    services = {
        "DATABASE_URI": "postgresql://u:hidden@127.0.0.1:9/d",
        "REDIS_URI": "redis://127.0.0.1:9",
        "HOLDFAST_DATABASE_WAIT_SECONDS": "0",
    }
    ended = subprocess.run(
        [*COMMAND, "--port", "0", *options],
        cwd=project,
        env=environment(services | given),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert ended.returncode == 2, ended
    lines = {line for line in ended.stderr.splitlines() if line.startswith("error: ")}
    assert len(lines) == 1, ended.stderr
    assert expected in lines.pop()
    assert "hidden" not in ended.stdout + ended.stderr
    assert not (project / ".holdfast" / "postgres").exists()


def test_with_a_json_log_the_error_is_an_object(project: Path, services: dict[str, str]) -> None:
    wrong = services["DATABASE_URI"].replace("holdfast:", "holdfast:not-", 1)
    # What no waiting cures is told at once, although a start waits for a Postgres that is away.
    ended = subprocess.run(
        [*COMMAND, "--port", "0"],
        cwd=project,
        env=environment(services | {"DATABASE_URI": wrong, "LOG_JSON": "true"}),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    told = json.loads(line)
    assert told["level"] == "error"
    assert "password authentication failed" in told["event"]
    assert all(json.loads(line)["level"] for line in ended.stdout.splitlines())


@pytest.mark.timeout(600)  # four processes start, on a machine that may be busy
def test_the_roles_share_the_work_and_live_without_the_database(
    project: Path, services: dict[str, str]
) -> None:
    postgres = EmbeddedPostgres(project / "probed", free_port())
    with ExitStack() as held:
        held.callback(postgres.stop)
        postgres.start()
        postgres.wait_until_ready()
        given = services | {"DATABASE_URI": postgres.uri}
        postgres.stop()
        api, api_process = held.enter_context(serving(project, "--role", "api", "--workers", "2", **given))
        queue, queue_process = held.enter_context(serving(project, "--role", "queue", "--jobs", "3", **given))
        both = ((api, api_process), (queue, queue_process))

        # While they wait for it to come up:
        for client, _ in both:
            assert client.get("/ok").json()["ok"] is True
            not_ready = client.get("/ok?check_db=1")
            assert (not_ready.status_code, not_ready.json()["ok"]) == (503, False)
        refused = api.post("/threads", json={})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")

        postgres.start()
        for client, process in both:
            wait_for(partial(is_ready, client, process), "the server is ready")
        assert run(api, "/runs/wait", "twice") == {"text": "eciwt"}
        assert queue.get("/metrics?format=json").json()["workers"]["max"] == 3
        assert queue.post("/threads", json={}).status_code == 404

        # Each scrape reaches one of two processes, and tells of both.
        up = {f'lg_api_postgres_up{{worker="{number}"}} 1.0' for number in (0, 1)}
        wait_for(partial(says, api, up), "both processes' metrics say that Postgres is up")

        # While it hangs:
        processes = of_postgres(postgres)
        held.callback(resume, processes)
        for each in processes:
            each.suspend()
        for client, _ in both:
            assert client.get("/ok").status_code == 200
            # What it answered just before it hung counts for a moment.
            wait_for(partial(is_not_ready, client), "the server is not ready")
            hung = client.get("/ok?check_db=1")
            assert "The database does not answer now" in hung.json()["detail"]
        assert api.get("/?check_db=1").status_code == 503
        # /metrics does not hang with it, and says so.
        down = {"lg_api_postgres_up 0.0"}
        wait_for(partial(says, queue, down), "the queue's metrics say that Postgres is away")
        down = {f'lg_api_postgres_up{{worker="{number}"}} 0.0' for number in (0, 1)}
        wait_for(partial(says, api, down | {"lg_api_oldest_pending_run_seconds NaN"}), "so do the others'")
        told = api.get("/metrics?format=json").json()
        assert (told["queue"]["n_pending"], told["postgres"]["pool_max"] > 0) == (None, True)
        resume(processes)
        for client, process in both:
            wait_for(partial(is_ready, client, process), "the server is ready again")

        for process in (queue_process, api_process):
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_SECONDS) in (0, -signal.SIGTERM)
    for log in project.glob("server-*.log"):
        text = log.read_text()
        assert "Waiting for it for up to 300 s" in text
        assert "Traceback" not in text, text


def says(client: httpx.Client, lines: set[str]) -> bool:
    asked_at = time.monotonic()
    said = set(client.get("/metrics").text.splitlines())
    assert time.monotonic() - asked_at < 20, "it waits for nobody"
    return lines <= said


def of_postgres(postgres: EmbeddedPostgres) -> list[psutil.Process]:
    main = psutil.Process(int((postgres.data / "postmaster.pid").read_text().split("\n", 1)[0]))
    return [main, *main.children()]


def resume(processes: list[psutil.Process]) -> None:
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            each.resume()


def is_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the server ended"
    try:
        return client.get("/ok?check_db=1").is_success
    except httpx.TransportError:
        return False


def is_not_ready(client: httpx.Client) -> bool:
    return client.get("/ok?check_db=1").status_code == 503


def test_a_taken_port_is_told_at_once(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for given in ({"DATABASE_URI": "postgresql://h/d", "REDIS_URI": "redis://h"}, {}):
            ended = subprocess.run(
                [*COMMAND, "--port", port],
                cwd=project,
                env=environment(given),
                capture_output=True,
                text=True,
                timeout=DEADLINE_SECONDS,
                check=False,
            )
            assert ended.returncode == 2
            assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert not (project / ".holdfast" / "postgres").exists()
