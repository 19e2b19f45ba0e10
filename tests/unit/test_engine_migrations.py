"""Migrations beside servers that work on: who waits for whom, what broke off, and who may serve then."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from langgraph_runtime_holdfast import foreign, schema_files
from langgraph_runtime_holdfast import migrate as migrations
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.schema_files import Migration
from langgraph_runtime_holdfast.schema_state import require_schema
from tests.contract.engines import Services

NEWEST = schema_files.migrations()[-1].version
NEXT = NEWEST + 1
WIDER = f"-- Minimum version: {NEWEST}\nALTER TABLE thread ADD COLUMN extra text;\n"
INDEXED = f"""\
-- Finds runs by their assistant.
-- Minimum version: {NEWEST}
CREATE INDEX CONCURRENTLY IF NOT EXISTS run_assistant
    ON run (assistant_id);
"""
LATE = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'run_assistant'::regclass"
BUILDING = "SELECT 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for %'"
LOCK_SECONDS = 0.3

Add = Callable[[str, str], str]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """What the next version would bring, in a folder of its own; and locks that nobody waits long for."""
    for path in foreign.FOLDER.glob("*.sql"):
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.setattr(schema_files, "FOLDER", tmp_path)
    monkeypatch.setattr(foreign, "FOLDER", tmp_path)
    monkeypatch.setattr(migrations, "LOCK_SECONDS", LOCK_SECONDS)
    monkeypatch.setattr(migrations, "_PAUSE_SECONDS", 0.1)

    def write(name: str, text: str) -> str:
        (tmp_path / f"{NEXT:04}_{name}.sql").write_text(text)
        return f"{NEXT:04}_{name}"

    return write


async def migrated(services: Services, name: str) -> str:
    uri = services.make_database(name)
    await migrate(uri, timeout_seconds=30)
    return uri


async def connected(uri: str) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(uri, autocommit=True)


async def asked(uri: str, statement: str) -> Any:
    async with await connected(uri) as connection:
        row = await (await connection.execute(statement.encode())).fetchone()
        return row and row[0]


async def done(uri: str, statement: str, **values: Any) -> None:
    async with await connected(uri) as connection:
        await connection.execute(statement.encode(), values or None)


async def test_who_reads_long_holds_up_the_migration_and_nobody_else(services: Services, add: Add) -> None:
    """As pg_dump reads: all tables, in one transaction."""
    uri = await migrated(services, "migrations_reader")
    async with await connected(uri) as reader, await connected(uri) as server:
        async with reader.transaction():
            await reader.execute("SELECT count(*) FROM thread")
            # What is up to date asks for no table.
            assert await migrate(uri, timeout_seconds=LOCK_SECONDS / 2) == []
            name = add("wider", WIDER)
            with pytest.raises(
                EngineError, match=rf"process {reader.info.backend_pid} .* count\(\*\) FROM thread"
            ):
                await migrate(uri, timeout_seconds=LOCK_SECONDS * 3)
            migrating = asyncio.create_task(migrate(uri, timeout_seconds=30))
            longest, until = 0.0, time.monotonic() + LOCK_SECONDS * 6
            while time.monotonic() < until:
                began = time.monotonic()
                await server.execute("SELECT 1 FROM thread LIMIT 1")
                longest = max(longest, time.monotonic() - began)
            assert not migrating.done()
        assert await migrating == [name]
    assert longest < LOCK_SECONDS + 1.0, "servers waited behind it for longer than one try"
    # It is recorded where the version before does not look: that one still starts.
    assert await asked(uri, "SELECT max(version) FROM holdfast_migration") == 5
    assert await asked(uri, "SELECT minimum_version FROM holdfast_schema ORDER BY version DESC") == NEWEST


async def test_an_index_whose_making_broke_off_is_made_anew(services: Services, add: Add) -> None:
    """IF NOT EXISTS would take what is left of it for the index."""
    uri = await migrated(services, "migrations_index")
    name = add("indexed", INDEXED)
    async with await connected(uri) as reader, reader.transaction():
        # Whoever has an old snapshot may see what the new index lacks: it waits for them, beside all traffic.
        await reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await reader.execute("SELECT 1")
        migrating = asyncio.create_task(migrate(uri, timeout_seconds=30))
        while await asked(uri, BUILDING) is None:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.01)
        await asked(uri, "SELECT count(*) FROM run")
        await asked(uri, "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index")
        with pytest.raises(EngineError):
            await migrating
    assert await asked(uri, LATE) is False
    assert await migrate(uri, timeout_seconds=30) == [name]
    assert await asked(uri, LATE) is True
    assert await asked(uri, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("0006_silent", "ALTER TABLE thread ADD x text;", "needs a line '-- Minimum version: N'"),
        ("0006_future", "-- Minimum version: 7\nSELECT 1;", "no engine could serve on it"),
        (
            "0006_mixed",
            "-- Minimum version: 5\n" + INDEXED + "ALTER TABLE run ADD x text;",
            "nothing else is in",
        ),
        ("0006_once", "-- Minimum version: 5\nCREATE INDEX CONCURRENTLY x ON run (status);", "IF NOT EXISTS"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / f"{name}.sql").write_text(text)
    with pytest.raises(ValueError, match=told):
        Migration.read(tmp_path / f"{name}.sql")


# What the version before, or a fleet under load, would not survive; docs/upgrading.md.
NOT_AN_EXPANSION = re.compile(
    r"\bDROP (?!INDEX|NOT NULL)|\bRENAME\b|\bTYPE\b|\bSET NOT NULL\b|\bLOCK TABLE\b|\bCREATE OR REPLACE\b"
    r"|^ *CREATE TRIGGER\b|^ *UPDATE\b",
    re.MULTILINE,
)


def _faults(migration: Migration) -> list[str]:
    """What an expansion does that is for a contraction, or is no migration's at all."""
    code = re.sub(r"--[^\n]*", "", migration.text)
    if migration.minimum_version == migration.version:
        return []  # it contracts: nobody who knows less is let in any more
    made = re.findall(r"CREATE TABLE (\w+)", code)
    on = re.findall(r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)\w+\s+ON (\w+)", code)
    slow = [f"an index on {table}, which exists, without CONCURRENTLY" for table in on if table not in made]
    return NOT_AN_EXPANSION.findall(code) + slow


def test_an_expansion_takes_nothing_away_and_holds_up_nobody(tmp_path: Path) -> None:
    for migration in schema_files.migrations():
        if migration.version > schema_files.LAST_OF_THE_FIRST_TABLE:
            assert not _faults(migration), migration.name
    bad = tmp_path / "0007_bad.sql"
    for statement in (
        "ALTER TABLE run DROP COLUMN status;",
        "ALTER TABLE run RENAME TO runs;",
        "CREATE INDEX x ON run (status);",
        "UPDATE run SET status = 'a';",
    ):
        bad.write_text(f"-- Minimum version: 6\n{statement}\n")
        assert _faults(Migration.read(bad)), statement


async def test_the_schema_may_have_a_name_that_needs_quotes(services: Services) -> None:
    uri = services.make_database("migrations_named")
    await done(uri, 'CREATE SCHEMA "Prod-1"')
    there = f"{uri}?options=-csearch_path%3D%22Prod-1%22"
    assert await migrate(there, timeout_seconds=30)
    assert await migrate(there, timeout_seconds=30) == []
    await require_schema(there, wants_vectors=False)


async def test_who_does_not_migrate_refuses_what_is_behind(services: Services, add: Add) -> None:
    uri = services.make_database("migrations_behind")
    with pytest.raises(
        EngineError, match=r"has no schema and lacks 0001_initial and \d+ more.*`holdfast migrate`"
    ):
        await require_schema(uri, wants_vectors=False)
    assert await asked(uri, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
    await migrate(uri, timeout_seconds=30)
    await require_schema(uri, wants_vectors=False)
    with pytest.raises(EngineError, match="lacks migrations of the vectors"):
        await require_schema(uri, wants_vectors=True)
    await done(uri, "DROP FUNCTION thread_content_v2")
    with pytest.raises(EngineError, match=r"version \d+ and lacks thread_content_v2, and"):
        await require_schema(uri, wants_vectors=False)
    assert await migrate(uri, timeout_seconds=30) == ["thread_content_v2"]
    add("wider", WIDER)
    with pytest.raises(EngineError, match=rf"version {NEWEST} and lacks {NEXT:04}_wider"):
        await require_schema(uri, wants_vectors=False)
    await done(
        uri, "INSERT INTO holdfast_schema VALUES (%(version)s, 'contracts', %(version)s)", version=NEXT + 2
    )
    with pytest.raises(EngineError, match=f"knows version {NEXT + 2}; this one knows {NEXT}"):
        await require_schema(uri, wants_vectors=False)
