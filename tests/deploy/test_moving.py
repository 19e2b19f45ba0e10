"""Moving in at real sizes, through kill -9, and from a real Aegra; see also tests/contract/test_moving.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, LiteralString, NamedTuple

import httpx
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient

from benchmarks.peers import PeerMissingError, peer_python
from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart
from langgraph_runtime_holdfast.migrate import migrate
from tests.contract.conftest import plain_http
from tests.contract.engines import Services, environment, running_holdfast_server
from tests.contract.graphs import growing, pausing
from tests.contract.moving import command, counted, own_saver, project, report

THREADS = int(os.environ.get("MOVING_THREADS", "10000"))
STATES = int(os.environ.get("MOVING_STATES", "60"))
MOST_MEGABYTES = 480
SECONDS = 1500.0
KEPT = Path(__file__).parents[2] / ".holdfast" / "peers"
# As many threads more as are asked for, each like the one that is there.
MULTIPLY: tuple[LiteralString, ...] = (
    """
    INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint,
                             metadata)
    SELECT 'thread-' || n, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata
    FROM checkpoints, generate_series(1, %s) AS n
    """,
    """
    INSERT INTO checkpoint_blobs
    SELECT 'thread-' || n, checkpoint_ns, channel, version, type, blob
    FROM checkpoint_blobs, generate_series(1, %s) AS n
    """,
    """
    INSERT INTO checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT 'thread-' || n, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
    FROM checkpoint_writes, generate_series(1, %s) AS n
    """,
)
# Values that do not compress, beside the text that the library keeps in the checkpoints themselves.
LENGTHEN: LiteralString = """
INSERT INTO checkpoint_blobs
SELECT 'large', '', 'old', n::text, 'bytes',
       (SELECT string_agg(decode(md5(n::text || '/' || m), 'hex'), '') FROM generate_series(1, 320000) AS m)
FROM generate_series(1, %s) AS n
"""
WHOLE: LiteralString = """
SELECT count(DISTINCT thread_id), count(*), (SELECT count(*) FROM checkpoint_blobs),
       (SELECT count(*) FROM checkpoint_writes)
FROM checkpoints
"""


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    megabytes: float
    seconds: float


@pytest.fixture
def services(own_services: Services) -> Services:
    return own_services


def run(config: Path, target: str, *arguments: str, kill_after: float | None = None) -> Ended:
    """Run the command, or kill it in the midst; says what memory it took at most."""
    log = config.parent / "out.json"
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command(config, *arguments), "--json"], env=environment(DATABASE_URI=target), stdout=out
        )
        if kill_after is not None:
            deadline = time.monotonic() + SECONDS
            want = _count(target) + int(kill_after)
            while _count(target) < want:
                assert time.monotonic() < deadline
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    return Ended(code, log.read_text(), usage.ru_maxrss / 1000, time.monotonic() - began)


def _count(uri: str) -> int:
    with psycopg.connect(uri) as connection:
        row = connection.execute("SELECT count(*) FROM thread").fetchone()
    assert row is not None
    return int(row[0])


def whole(uri: str) -> tuple[Any, ...]:
    with psycopg.connect(uri) as connection:
        row = connection.execute(WHOLE).fetchone()
    assert row is not None
    return row


async def migrated(services: Services) -> str:
    uri = services.make_database(f"into_{uuid.uuid4().hex[:8]}")
    await migrate(uri, timeout_seconds=60)
    return uri


@pytest.mark.timeout(SECONDS)
async def test_ten_thousand_threads_through_kills_are_all_here_once(
    services: Services, tmp_path: Path
) -> None:
    config = project(tmp_path)
    target = await migrated(services)
    async with own_saver(services) as (uri, saver, _):
        graph = pausing.inbox.builder.compile(checkpointer=saver)
        await graph.ainvoke({"text": "Hello"}, {"configurable": {"thread_id": "thread-0"}})
    with psycopg.connect(uri, autocommit=True) as connection:
        for statement in MULTIPLY:
            connection.execute(statement, [THREADS - 1])
        connection.execute("VACUUM ANALYZE")

    arguments = ("import", "postgres", uri, "--graph=inbox")
    for _ in range(3):
        wait = random.randint(1, THREADS // 8)  # noqa: S311 - a moment
        ended = await asyncio.to_thread(run, config, target, *arguments, kill_after=wait)
        assert ended.code == -signal.SIGKILL
    before = _count(target)
    last = await asyncio.to_thread(run, config, target, *arguments)
    assert last.code == 0, last.out
    told = json.loads(last.out)
    assert counted(told, "threads") == (THREADS - before, before, 0)
    assert whole(target) == whole(uri)
    assert last.megabytes < MOST_MEGABYTES
    with psycopg.connect(target) as connection:
        rows = connection.execute(
            "SELECT count(*), count(DISTINCT metadata -> 'imported' ->> 'thread_id') FROM thread "
            "WHERE status = 'interrupted' AND interrupts <> '{}'"
        ).fetchone()
    assert rows == (THREADS, THREADS)
    print(f"{THREADS} threads: {THREADS - before} in {last.seconds:.0f} s, {last.megabytes:.0f} MB")


@pytest.mark.timeout(SECONDS)
async def test_a_long_history_of_large_states_takes_little_memory(services: Services, tmp_path: Path) -> None:
    config = project(tmp_path)
    target, again = await migrated(services), await migrated(services)
    async with own_saver(services) as (uri, saver, _):
        graph = growing.grows.builder.compile(checkpointer=saver)
        for _ in range(STATES // 8):
            await graph.ainvoke({"megabytes": 2.5}, {"configurable": {"thread_id": "large"}})
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute(LENGTHEN, [STATES // 2])
        ended = await asyncio.to_thread(run, config, target, "import", "postgres", uri, "--graph=grows")
        assert ended.code == 0, ended.out
        assert whole(target) == whole(uri)
    out = await asyncio.to_thread(run, config, target, "export", str(tmp_path / "out"))
    back = await asyncio.to_thread(run, config, again, "import", "folder", str(tmp_path / "out"))
    assert (out.code, back.code) == (0, 0), out.out + back.out
    assert whole(again) == whole(target)
    taken = [each.megabytes for each in (ended, out, back)]
    assert max(taken) < MOST_MEGABYTES, taken
    print(f"{whole(target)[1:3]} states and values of 5 MB: {taken} MB")


@pytest.fixture(scope="module")
def aegra_python() -> Path:
    try:
        return peer_python("aegra", KEPT)
    except PeerMissingError as error:
        pytest.skip(f"Aegra cannot be installed here: {error}")


@contextlib.contextmanager
def running_aegra(python: Path, home: Path, uri: str) -> Iterator[str]:
    """Aegra itself, in an environment of its own."""
    graphs = {name: f"./pausing.py:{name}" for name in ("inbox", "gated", "asks_inside")}
    (home / "aegra.json").write_text(json.dumps({"graphs": graphs, "dependencies": ["."]}))
    port = choose_ports({"PORT": 0})["PORT"]
    listen = ["--host", "127.0.0.1", "--port", str(port)]
    given = {
        "DATABASE_URL": uri, "AEGRA_CONFIG": "aegra.json", "AUTH_TYPE": "noop",
        "REDIS_BROKER_ENABLED": "false", "PATH": os.environ["PATH"],
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    part = RunningPart(
        Part(
            "aegra",
            [str(python), "-m", "uvicorn", "aegra_api.main:app", *listen],
            given,
            home,
            address=url,
            is_healthy=partial(_is_healthy, url),
            log=home / "aegra.log",
        )
    )
    try:
        part.wait_until_healthy(180)
        yield url
    finally:
        part.stop()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.asynccontextmanager
async def serving(manager: Any) -> AsyncIterator[str]:
    """A server whose start and end do not hold up this loop."""
    url = await asyncio.to_thread(manager.__enter__)
    try:
        yield url
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


@pytest.mark.timeout(SECONDS)
async def test_what_aegra_has_goes_on_here(services: Services, aegra_python: Path, tmp_path: Path) -> None:
    config = project(tmp_path)
    uri = services.make_database(f"aegra_{uuid.uuid4().hex[:8]}")
    target = await migrated(services)
    async with serving(running_aegra(aegra_python, tmp_path, uri)) as url, plain_http(url) as http:
        there: Any = LangGraphClient(http)
        ids = {}
        for name, text in (("inbox", "Hello"), ("gated", " Hi "), ("asks_inside", "Deep")):
            ids[name] = (await there.threads.create(metadata={"kind": name}))["thread_id"]
            await there.runs.wait(ids[name], name, input={"text": text})
        ids["empty"] = (await there.threads.create())["thread_id"]
        made = await there.assistants.create("inbox", name="first", config={"tags": ["a"]})
        await there.assistants.update(
            made["assistant_id"], graph_id="inbox", name="second", config={"tags": ["b"]}
        )
        (
            await http.post(
                "/runs/crons",
                json={
                    "assistant_id": "inbox",
                    "schedule": "0 0 1 1 *",
                    "input": {"text": "x"},
                    "timezone": "UTC",
                },
            )
        ).raise_for_status()
        await there.store.put_item(("a", "b"), "k", {"v": 1})
        waiting = await there.threads.get_state(ids["inbox"])
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO runs (thread_id, user_id, status) VALUES (%s, 'ann', 'running')", [ids["gated"]]
        )

    told = await report(config, target, "import", "aegra", uri, code=1)
    assert counted(told, "threads") == (3, 0, 1), told
    assert (told["left"][0]["id"], "runs wait or run" in told["left"][0]["why"]) == (ids["gated"], True)
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("DELETE FROM runs WHERE user_id = 'ann'")
    told = await report(config, target, "import", "aegra", uri)
    assert counted(told, "threads") == (1, 3, 0)
    assert counted(told, "assistants") == (0, 1, 0)
    assert counted(told, "crons") == (0, 1, 0)
    assert any(note.startswith("1 crons are disabled") for note in told["notes"])
    assert whole(target) == whole(uri)

    async with (
        serving(running_holdfast_server(tmp_path / "here", services, target)) as url,
        plain_http(url) as http,
    ):
        here: Any = LangGraphClient(http)
        thread = await here.threads.get(ids["inbox"])
        assert (thread["status"], thread["metadata"]["kind"]) == ("interrupted", "inbox")
        assert "owner" in thread["metadata"]
        state = await here.threads.get_state(ids["inbox"])
        assert (state["values"], state["next"]) == (waiting["values"], waiting["next"])
        for name, resume in (
            ("inbox", {"command": {"resume": ["yes"]}}),
            ("asks_inside", {"command": {"resume": ["yes"]}}),
            ("gated", {"input": None}),
        ):
            ended = await here.runs.wait(ids[name], name, **resume)
            assert ended["sent"] == [ended["text"]], name
        versions = await here.assistants.get_versions(made["assistant_id"])
        assert versions[0]["name"] == "second"
        (brought,) = await here.crons.search()
        assert (brought["schedule"], brought["timezone"], brought["enabled"]) == ("0 0 1 1 *", "UTC", False)
        (item,) = (await here.store.search_items(()))["items"]
        # Aegra has put its user before the namespace.
        assert (item["namespace"][-2:], item["key"], item["value"]) == (["a", "b"], "k", {"v": 1})
