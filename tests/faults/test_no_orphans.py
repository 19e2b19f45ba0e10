"""However the owner of a stack ends, every process that it started ends too, and the next start works."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import filterfalse
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from langgraph_runtime_holdfast.local import leash
from langgraph_runtime_holdfast.local.postgres import EmbeddedPostgres, embedded_postgres

DEADLINE_SECONDS = 90.0
# After a kill the server ends while its Postgres does: it gives up waiting for a connection soon.
SETTINGS = {"HOLDFAST_PORT": "0", "CALLBACKS_PORT": "0", "HOLDFAST_POOL_TIMEOUT_SECONDS": "1"}

GRAPH = """
from typing import TypedDict
from langgraph.graph import END, START, StateGraph

class State(TypedDict):
    text: str

async def reverse(state: State) -> State:
    return {"text": state["text"][::-1]}

graph = StateGraph(State).add_node(reverse).add_edge(START, "reverse").add_edge("reverse", END).compile()
"""
# Stands in for the callback receiver: a real process that takes its arguments and answers its health check.
RECEIVER = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

http.server.ThreadingHTTPServer((sys.argv[2], int(sys.argv[4])), Handler).serve_forever()
"""
# Takes the terminal as its controlling one, so that Ctrl-C reaches it as it does at a desk.
OWNER = """
import fcntl, signal, sys, termios
from pathlib import Path
from langgraph_runtime_holdfast.local.up import bring_up

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may themselves run under nohup
if sys.stdin.isatty():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
receiver = [sys.executable, "receiver.py"]
sys.exit(bring_up(Path("langgraph.json"), "holdfast", [], True, end_with_parent=True, receiver=receiver))
"""


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.02)


def is_gone(process: Any) -> bool:
    try:
        # A zombie has ended; it only waits for whoever adopted it.
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(processes: list[Any]) -> None:
    try:
        wait_for(lambda: all(map(is_gone, processes)), f"the end of {processes}")
    finally:
        for left in filterfalse(is_gone, processes):
            left.kill()


@contextmanager
def ended_for_sure(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Leave nothing behind when a test fails."""
    try:
        yield process
    finally:
        for left in [*children_of(process.pid), process]:
            try:
                left.kill()
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue  # that is what was wanted
        process.wait()


def children_of(process_id: int) -> list[Any]:
    try:
        found: list[Any] = psutil.Process(process_id).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def test_the_leash_ends_a_stubborn_group_when_its_owner_is_killed() -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); "
    tree = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {stubborn + 'time.sleep(600)'!r}])"
    )
    command = [sys.executable, leash.__file__, "--grace-seconds", "0.2", "--", sys.executable, "-c"]
    command.append(f"{tree}; {stubborn} time.sleep(600)")
    owner_code = (
        f"import subprocess, time; subprocess.Popen({command!r}, stdin=subprocess.PIPE); time.sleep(600)"
    )
    with ended_for_sure(
        subprocess.Popen([sys.executable, "-c", owner_code], stdout=subprocess.PIPE)
    ) as owner:
        assert owner.stdout is not None
        assert [owner.stdout.readline() for _ in range(2)] == [b"up\n"] * 2
        started = children_of(owner.pid)
        assert len(started) == 3  # leash, command, grandchild
        owner.kill()
        wait_until_gone(started)


def test_the_leash_ends_what_stands_still_in_a_session_of_its_own() -> None:
    """As a backend of Postgres does that a fault has stopped: no signal to the group reaches it."""
    still = "import os, signal, time; print('up', flush=True); "
    still += "os.kill(os.getpid(), signal.SIGSTOP); time.sleep(600)"
    tree = "import subprocess, sys, time; "
    tree += f"subprocess.Popen([sys.executable, '-c', {still!r}], start_new_session=True)"
    command = [sys.executable, leash.__file__, "--grace-seconds", "0.5", "--", sys.executable, "-c"]
    command.append(f"{tree}; time.sleep(600)")
    owner_code = (
        f"import subprocess, time; subprocess.Popen({command!r}, stdin=subprocess.PIPE); time.sleep(600)"
    )
    with ended_for_sure(
        subprocess.Popen([sys.executable, "-c", owner_code], stdout=subprocess.PIPE)
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        started = children_of(owner.pid)
        assert len(started) == 3  # leash, command, grandchild
        wait_for(lambda: any(each.status() == psutil.STATUS_STOPPED for each in started), "it stands still")
        owner.kill()
        wait_until_gone(started)


def test_a_postgres_with_a_stopped_backend_ends_in_order(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path)
    try:
        leash_id = postgres.start().leash_id
        postgres.wait_until_ready()
        with psycopg.connect(postgres.uri) as connection:
            started = children_of(leash_id)
            psutil.Process(connection.info.backend_pid).suspend()
            postgres.stop()
            assert all(map(is_gone, started))
    finally:
        postgres.stop()
    assert "database system is shut down" in (tmp_path / "postgres.log").read_text()


@pytest.mark.parametrize(("code", "expected"), [("exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_leash_passes_the_exit_code_on(code: str, expected: int) -> None:
    command = [sys.executable, leash.__file__, "--", sys.executable, "-c", code]
    with ended_for_sure(subprocess.Popen(command, stdin=subprocess.PIPE)) as running:
        assert running.wait(DEADLINE_SECONDS) == expected


def test_postgres_starts_again_after_its_leash_was_killed(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path)
    try:
        leash_id = postgres.start().leash_id
        postgres.wait_until_ready()
        with psycopg.connect(postgres.uri, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept ()")
        started = children_of(leash_id)
        assert started
        os.kill(leash_id, signal.SIGKILL)
    finally:
        postgres.stop()
    with embedded_postgres(tmp_path) as uri, psycopg.connect(uri) as connection:
        wait_until_gone(started)
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One project, so that each start below is on the data folder that the fault before it left."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "graph.py").write_text(GRAPH)
    (folder / "receiver.py").write_text(RECEIVER)
    (folder / "owner.py").write_text(OWNER)
    manifest = {"dependencies": ["."], "graphs": {"reverse": "./graph.py:graph"}}
    (folder / "langgraph.json").write_text(json.dumps(manifest))
    return folder


@contextmanager
def serving_stack(project: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A stack that serves, owned by a process on a terminal of its own; with the terminal's descriptor."""
    terminal, its_end = pty.openpty()
    settings = SETTINGS | {"TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "owner.py"],
        cwd=project,
        env=os.environ | settings,
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    )
    os.close(its_end)
    try:
        with ended_for_sure(process):
            seen = b""
            while b"serving at" not in seen:
                try:
                    seen += os.read(terminal, 4096)
                except OSError:  # the owner has ended and with it its end of the terminal
                    pytest.fail(f"the stack did not come up: {seen.decode(errors='replace')}")
            yield process, terminal
    finally:
        os.close(terminal)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, "Ctrl-C"])
def test_a_stack_leaves_nothing_behind(project: Path, how: signal.Signals | str) -> None:
    with serving_stack(project) as (owner, terminal):
        started = children_of(owner.pid)
        commands = [" ".join(process.cmdline()) for process in started]
        for part in ("langgraph_runtime_holdfast serve", "valkey-server", "receiver.py"):
            assert any(part in command for command in commands), part
        assert sum(process.name() == "postgres" for process in started) >= 2
        if isinstance(how, signal.Signals):
            owner.send_signal(how)
            expected = -how if how == signal.SIGKILL else 128 + how
        else:
            os.write(terminal, b"\x03")
            expected = 0
        assert owner.wait(DEADLINE_SECONDS) == expected
        wait_until_gone(started)


def test_a_stack_ends_when_the_make_that_started_it_is_killed(project: Path) -> None:
    (project / "Makefile").write_text(f"run:\n\t@{sys.executable} owner.py\n")
    with ended_for_sure(
        subprocess.Popen(
            ["make", "run"],
            cwd=project,
            env=os.environ | SETTINGS | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
    ) as make:
        assert make.stdout is not None
        assert any(b"serving at" in line for line in make.stdout)
        started = children_of(make.pid)
        make.kill()
        wait_until_gone(started)
