"""The pools on a real Postgres: what is dead is replaced, who waits is served, limits are final."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from psycopg import sql

from langgraph_runtime_holdfast.availability import LimitExceededError
from langgraph_runtime_holdfast.database import DatabaseAwayError, Handle, dependency_checks
from langgraph_runtime_holdfast.retry import retry_db
from tests.contract.engine_pool import engine_pool
from tests.contract.engines import Services

AT_ONCE = 30
RECOVERED_SECONDS = 2.0
AWAY_SECONDS = 5.0
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


@pytest.fixture
def database(services: Services) -> str:
    """The name of a database of the test."""
    name = f"pools_{uuid.uuid4().hex[:8]}"
    services.make_database(name)
    return name


@pytest.fixture
def admin(services: Services) -> Iterator[psycopg.Connection]:
    """A connection to another database, from which this one is taken away."""
    with psycopg.connect(services.postgres_uri, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def handle(services: Services, database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Handle]:
    """The pool of this loop."""
    async with engine_pool(f"{services.postgres_uri.rsplit('/', 1)[0]}/{database}", monkeypatch) as opened:
        yield opened


async def test_after_all_sessions_were_ended_the_next_calls_work_at_once(
    handle: Handle, admin: psycopg.Connection, database: str
) -> None:
    # As a handler of the API: a session may also end between the pool's look at it and the statement.
    @retry_db
    async def ask() -> float:
        began = time.monotonic()
        await handle.fetch_one("SELECT pg_sleep(0.01)")
        return time.monotonic() - began

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    assert len(admin.execute(END_SESSIONS, [database]).fetchall()) > 5
    assert max(await asyncio.gather(*(ask() for _ in range(AT_ONCE)))) < RECOVERED_SECONDS


async def test_who_waits_is_served_when_postgres_is_back_though_nobody_else_comes(
    handle: Handle, admin: psycopg.Connection, database: str
) -> None:
    def allow(whether: bool) -> None:
        statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(statement.format(sql.Identifier(database), sql.Literal(whether)))

    ready = dependency_checks()["postgres"]
    await ready()
    allow(False)
    admin.execute(END_SESSIONS, [database])
    waiting = asyncio.create_task(handle.fetch_one("SELECT 1 AS answer"))
    with pytest.raises(DatabaseAwayError):
        await ready()
    await asyncio.sleep(AWAY_SECONDS)  # the fault itself, longer than the pool tries by itself
    assert not waiting.done()
    allow(True)
    back_at = time.monotonic()
    assert await waiting == {"answer": 1}
    assert time.monotonic() - back_at < RECOVERED_SECONDS
    await ready()


async def test_what_is_too_large_for_postgres_is_no_transient_fault(handle: Handle) -> None:
    with pytest.raises(LimitExceededError, match="too large"):
        await handle.fetch_one("SELECT repeat('x', 2000000000)")
    assert await handle.fetch_one("SELECT 1 AS answer") == {"answer": 1}
