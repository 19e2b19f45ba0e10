"""`holdfast doctor` on real services: nothing to say where all is well, and one clear line for each fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.postgres.aio import AsyncPostgresStore

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.migrate import migrate
from tests.contract.engines import GRAPHS, Services, environment
from tests.contract.pgbouncer import running_pgbouncer

COMMAND = [sys.executable, "-m", "langgraph_runtime_holdfast"]
SECONDS = 240
# Each command is a process; on a busy machine its start alone takes a minute.
pytestmark = pytest.mark.timeout(900)
# One small graph: the doctor takes a second, and importing a model's libraries four more, each time.
GRAPH = """
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

class State(TypedDict, total=False):
    text: str

async def echo(state: State) -> State:
    return {"text": state["text"]}

graph = StateGraph(State).add_node("echo", echo).add_edge(START, "echo").add_edge("echo", END).compile()
"""
Findings = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a langgraph.json."""
    folder = tmp_path_factory.mktemp("doctor")
    manifest = json.loads((GRAPHS / "langgraph.json").read_text()) | {"graphs": {"echo": "./echo.py:graph"}}
    (folder / "langgraph.json").write_text(json.dumps(manifest))
    (folder / "echo.py").write_text(GRAPH)
    return folder


@pytest.fixture
def valkey(services: Services) -> Iterator[redis.Redis]:
    """The Valkey, whose settings are put back."""
    with redis.Redis.from_url(services.valkey_uri) as client:
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


def examine(project: Path, **variables: str) -> tuple[int, Findings, str]:
    """The exit code, the worst finding of each check, and all that was printed."""
    ended = run(project, "doctor", "--json", **variables)
    order = ("ok", "warning", "problem")
    found = sorted(json.loads(ended.stdout), key=lambda each: order.index(each["level"]))
    return ended.returncode, {each["check"]: each for each in found}, ended.stdout + ended.stderr


def run(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments, "--config", str(project / "langgraph.json")],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_where_all_is_well_before_and_after_the_migrations(project: Path, services: Services) -> None:
    uri = services.make_database("doctor_well")
    given = {"DATABASE_URI": uri, "REDIS_URI": services.valkey_uri}
    code, found, _ = examine(project, **given)
    assert code == 0, found
    assert found["schema"]["says"].startswith("empty")
    code, found, _ = examine(project, **given, HOLDFAST_MIGRATE="false")
    assert code == 1
    assert "Run `holdfast migrate`" in found["schema"]["cure"]
    refused = run(project, "serve", "--no-migrate", "--port", "0", **given)
    assert refused.returncode == 2
    assert "has no schema" in refused.stderr
    assert "Run `holdfast migrate` of this version first" in refused.stderr
    assert run(project, "migrate", **given).returncode == 0
    code, found, printed = examine(project, **given)
    assert code == 0, found
    assert "up to date" in found["schema"]["says"]
    assert {"environment", "server", "postgres", "connections", "pooler", "clock", "valkey"} <= found.keys()
    assert "read each thread" in found["search"]["says"]
    assert found["auth"]["level"] == "warning"  # these graphs have none
    assert found["traces"]["says"] == "sent nowhere"
    password = uri.split(":")[2].split("@")[0]
    assert password not in printed


def test_every_fault_is_found_in_one_examination(
    project: Path, services: Services, valkey: redis.Redis
) -> None:
    uri = services.make_database("doctor_ill")
    given = {"DATABASE_URI": uri, "REDIS_URI": services.valkey_uri}
    assert run(project, "migrate", **given).returncode == 0
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("INSERT INTO holdfast_migration (version, name) VALUES (9999, 'later')")
    valkey.config_set("maxmemory", 100_000_000)
    valkey.config_set("maxmemory-policy", "allkeys-lru")
    code, found, _ = examine(
        project, **given, HOLDFAST_REPLICAS="100", POSTGRES_POOL_MAX_SIZE="9", HOLDFAST_API_KEY="x" * 20
    )
    assert code == 1
    assert {name: each["level"] for name, each in found.items() if each["level"] != "ok"} == {
        "environment": "warning",
        "langgraph.json": "warning",
        "auth": "warning",
        "webhooks": "warning",
        "schema": "problem",
        "connections": "problem",
        "valkey": "warning",
    }
    assert all(each["cure"] for each in found.values() if each["level"] == "warning")
    refused = run(project, "serve", "--port", "0", **given, HOLDFAST_REPLICAS="100")
    assert refused.returncode == 2
    assert "schema version 9999" in refused.stderr


AEGRA = (
    "CREATE TABLE assistant (assistant_id text); CREATE TABLE assistant_versions (a text); "
    "CREATE TABLE thread (thread_id text); CREATE TABLE runs (a text); CREATE TABLE alembic_version (v text)"
)
IMAGE = (
    "CREATE TABLE assistant (a uuid); CREATE TABLE thread (t uuid); CREATE TABLE run (r uuid); "
    "CREATE TABLE cron (c uuid); CREATE TABLE schema_migrations (version bigint)"
)
LANGHOST = (
    "CREATE TABLE assistants (a uuid); CREATE TABLE assistant_versions (a uuid); "
    "CREATE TABLE threads (t uuid); CREATE TABLE runs (r uuid); CREATE TABLE crons (c uuid)"
)
ABANDONED = (
    "CREATE TABLE run (id int); "
    "CREATE TABLE holdfast_migration (version int PRIMARY KEY, name text, applied_at timestamptz)"
)
ALL_OBJECTS = "SELECT oid, relname, relfilenode FROM pg_class WHERE oid >= 16384 ORDER BY oid"


@pytest.mark.parametrize(
    ("name", "tables", "expected"),
    [
        ("aegra", AEGRA, "the tables of Aegra"),
        ("image", IMAGE, "the tables of the official LangGraph image"),
        ("langhost", LANGHOST, "the tables of langhost"),
        ("own", "CREATE SCHEMA x; CREATE TABLE run (id int)", r"tables of another program .* \(run\)"),
        # What a migration of the past left which failed at somebody else's table.
        ("abandoned", ABANDONED, "tables of another program"),
    ],
)
async def test_a_database_of_somebody_else_is_refused_as_it_is(
    project: Path, services: Services, name: str, tables: str, expected: str
) -> None:
    uri = services.make_database(f"foreign_{name}")
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(tables)
        before = connection.execute(ALL_OBJECTS).fetchall()
        with pytest.raises(EngineError, match=f"not this engine's: .*{expected}.*CREATE DATABASE"):
            await migrate(uri, timeout_seconds=30)
        if name == "aegra":  # as people meet it, once
            given = {"DATABASE_URI": uri, "REDIS_URI": services.valkey_uri}
            for command in (("migrate",), ("serve", "--port", "0")):
                refused = run(project, *command, **given)
                assert refused.returncode == 2
                assert "the tables of Aegra" in refused.stderr
                assert "Traceback" not in refused.stderr
            _, found, _ = examine(project, **given)
            assert found["schema"]["level"] == "problem"
            assert "CREATE DATABASE holdfast" in found["schema"]["cure"]
        assert connection.execute(ALL_OBJECTS).fetchall() == before


async def test_checkpoints_and_store_of_a_project_before_are_welcome(services: Services) -> None:
    uri = services.make_database("foreign_not")
    async with (
        AsyncPostgresSaver.from_conn_string(uri) as saver,
        AsyncPostgresStore.from_conn_string(uri) as store,
    ):
        await saver.setup()
        await store.setup()
    assert await migrate(uri, timeout_seconds=30)


def test_a_start_refuses_what_the_doctor_refuses(project: Path, services: Services) -> None:
    given = {"DATABASE_URI": services.make_database("doctor_full"), "REDIS_URI": services.valkey_uri}
    refused = run(project, "serve", "--port", "0", "--workers", "2", **given, HOLDFAST_REPLICAS="50")
    assert refused.returncode == 2
    lines = {line for line in refused.stderr.splitlines() if line.startswith("error: ")}
    assert len(lines) == 1, refused.stderr
    assert "Postgres has too few connections: 100 x (" in lines.pop()


def test_services_that_cannot_be_used_are_told_without_a_password(project: Path, services: Services) -> None:
    host = services.postgres_uri.split("@")[1]
    code, found, printed = examine(
        project,
        DATABASE_URI=f"postgresql://holdfast:not-the-password@{host}",
        REDIS_URI="redis://:not-the-password@127.0.0.1:9",
    )
    assert code == 1
    assert "password authentication failed" in found["postgres"]["says"]
    assert found["valkey"]["level"] == "warning"  # a start goes on without it
    assert "not-the-password" not in printed
    assert "Traceback" not in printed


def test_a_database_that_cannot_hold_every_text_is_refused(project: Path, services: Services) -> None:
    with psycopg.connect(services.postgres_uri, autocommit=True) as connection:
        connection.execute(
            "CREATE DATABASE doctor_ascii"
            " ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C' LOCALE_PROVIDER libc"
        )
    uri = services.postgres_uri.rsplit("/", 1)[0] + "/doctor_ascii"
    code, found, _ = examine(project, DATABASE_URI=uri, REDIS_URI=services.valkey_uri)
    assert code == 1
    assert "encoding is SQL_ASCII, not UTF8" in found["postgres"]["says"]


def test_a_pooler_is_seen(project: Path, services: Services, tmp_path: Path) -> None:
    services.make_database("doctor_pooled")
    with running_pgbouncer(tmp_path, services.postgres_uri, pool_size=5) as bouncer:
        code, found, _ = examine(
            project,
            DATABASE_URI=f"{bouncer}/doctor_pooled",
            REDIS_URI=services.valkey_uri,
            HOLDFAST_REPLICAS="100",
        )
    assert code == 0, found
    assert "max_client_conn must be at least" in found["pooler"]["says"]


def test_a_wrong_langgraph_json_does_not_end_the_examination(services: Services, tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text('{"graphs": {"a": "./missing.py:graph"}}')
    uri = services.make_database("doctor_wrong")
    code, found, printed = examine(tmp_path, DATABASE_URI=uri, REDIS_URI=services.valkey_uri)
    assert code == 1
    assert "missing.py, which does not exist" in found["langgraph.json"]["says"]
    assert found["postgres"]["level"] == "ok"
    assert "Traceback" not in printed


def test_a_section_of_the_environment_that_is_no_json_is_told_without_its_value(
    project: Path, services: Services
) -> None:
    given = {"DATABASE_URI": services.make_database("doctor_section"), "REDIS_URI": services.valkey_uri}
    code, found, printed = examine(project, **given, LANGGRAPH_STORE="{hidden")
    assert code == 1
    assert "LANGGRAPH_STORE" in found["environment"]["says"]
    assert found["valkey"]["level"] == "ok"  # the rest is looked at all the same
    assert "hidden" not in printed
