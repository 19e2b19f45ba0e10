"""Migrations: plain SQL files in order, under a lock, so that any number of servers may start at once.

The checkpointer and the store bring migrations of their own; they run here too, behind the same lock, because
two of them at once deadlock or fail.

The lock is a transaction on a connection of its own. A lock of the session would be simpler, but behind a
pooler in transaction mode there is no session: it would be taken on one server connection, released on
another, and stay.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import structlog
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from langgraph_runtime_holdfast import checkpoint_rows, store_rows
from langgraph_runtime_holdfast.dsn import CONNECTION_CURE, described
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.foreign import CURE, FOLDER, who_else
from langgraph_runtime_holdfast.pool import is_pooled

logger = structlog.stdlib.get_logger(__name__)

OLDEST_POSTGRES: Final = 140_000
LOCK: Final = 0x686F6C6466617374  # "holdfast" in ASCII; any constant of our own would do
_LOCK_POLL_SECONDS: Final = 0.1
_TRIES: Final = 5
_TRY_AGAIN_SECONDS: Final = 0.5
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS holdfast_migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_BLOCKER: Final = """
SELECT a.pid, a.state, left(a.query, 200) AS query, a.application_name,
       extract(epoch FROM now() - coalesce(a.xact_start, a.query_start, a.backend_start))::int AS seconds
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %(high)s AND l.objid = %(low)s
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
LIMIT 1
"""

Connection = AsyncConnection[DictRow]


def versions() -> list[tuple[int, Path]]:
    """The migrations that this engine has, by version."""
    found = [(int(path.name[:4]), path) for path in FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql")]
    return sorted(found)


async def migrate(
    dsn: str, *, timeout_seconds: float, store_index: dict[str, Any] | None = None
) -> list[str]:
    """Bring the database to this engine's schema; safe to repeat and to run many times at once.

    Args:
        dsn: The database, for libpq.
        timeout_seconds: How long to wait for somebody else's migrations.
        store_index: The store's `index` configuration with a resolved embedding, if vectors are wanted.

    Returns:
        The names of the migrations that were applied.

    Raises:
        EngineError: The database cannot be reached, is too old or too new or somebody else's, lacks pgvector
            although vectors are wanted, or another process holds the lock; the message says which and what
            to do.
    """
    applied: list[str] = []
    try:
        for tries in range(1, _TRIES + 1):
            try:
                await _migrate_once(dsn, timeout_seconds, store_index, applied)
                break
            except psycopg.errors.DeadlockDetected as error:
                # With somebody who works on the tables; nothing of the file at hand was done.
                if tries == _TRIES:
                    raise
                await logger.awarning("A migration met a deadlock; it is tried again", error=_one_line(error))
                await asyncio.sleep(_TRY_AGAIN_SECONDS * tries)
    except psycopg.errors.LockNotAvailable as error:
        raise EngineError(
            f"The migrations waited longer than {timeout_seconds:g} s for a transaction of somebody else: "
            f"{_one_line(error)}. Let it finish; pg_stat_activity shows it."
        ) from error
    except psycopg.Error as error:
        raise EngineError(f"The migrations failed at {described(dsn)}: {_one_line(error)}") from error
    return applied


async def _migrate_once(
    dsn: str, timeout_seconds: float, store_index: dict[str, Any] | None, applied: list[str]
) -> None:
    async with await _connect(dsn) as connection, await _connect(dsn) as lock_connection:
        await _check_server(connection)
        async with _lock(lock_connection, timeout_seconds):
            if not await is_pooled(connection):
                # Behind a pooler it would be a setting of whoever comes next; there waits are unbounded.
                await connection.execute(f"SET lock_timeout = {int(timeout_seconds * 1000)}")
            await _apply(connection, applied)
            await AsyncPostgresSaver(connection).setup()
            for addition in checkpoint_rows.ADDITIONS:
                await connection.execute(addition)
            await _setup_store(connection, store_index)


async def _connect(dsn: str) -> Connection:
    try:
        return await AsyncConnection.connect(
            dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None
        )
    except psycopg.OperationalError as error:
        raise EngineError(
            f"Postgres at {described(dsn)} cannot be used: {_one_line(error)}. {CONNECTION_CURE}"
        ) from error


async def _check_server(connection: Connection) -> None:
    if connection.info.server_version < OLDEST_POSTGRES:
        raise EngineError(
            f"Postgres is version {connection.info.server_version // 10_000}; {OLDEST_POSTGRES // 10_000} or "
            "newer is needed."
        )


@asynccontextmanager
async def _lock(connection: Connection, timeout_seconds: float) -> AsyncIterator[None]:
    # CREATE INDEX CONCURRENTLY, on the other connection, waits for all statements under way and for old
    # snapshots. A transaction between two statements has none; one that waited for the lock would be a
    # deadlock: so the lock is polled, each time in a transaction of its own, which keeps no pooler busy.
    deadline = time.monotonic() + timeout_seconds
    while True:
        async with connection.transaction():
            if await _take_lock(connection):
                yield
                return
        if time.monotonic() > deadline:
            raise EngineError(await _who_blocks(connection, timeout_seconds))
        await asyncio.sleep(_LOCK_POLL_SECONDS)


async def _take_lock(connection: Connection) -> bool:
    cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(%s) AS taken", [LOCK])
    row = await cursor.fetchone()
    if row is None or not row["taken"]:
        return False
    await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    return True


async def _who_blocks(connection: Connection, timeout_seconds: float) -> str:
    key = {"high": LOCK >> 32, "low": LOCK & 0xFFFFFFFF}
    row = await (await connection.execute(_BLOCKER, key)).fetchone()
    if row is None:
        return (
            f"The migrations could not begin within {timeout_seconds:g} s; the lock is free now: start again."
        )
    return (
        f"The migrations wait for process {row['pid']} ({row['application_name'] or 'unnamed'}, "
        f"{row['state']}), which has held the lock for {row['seconds']} s with: {_one_line(row['query'])}. "
        f"Let it finish, or end it with SELECT pg_terminate_backend({row['pid']})."
    )


async def _apply(connection: Connection, applied: list[str]) -> None:
    if owner := await who_else(connection):
        raise EngineError(
            f"The database {connection.info.dbname} is not this engine's: {owner}. "
            f"Nothing in it was changed. {CURE}"
        )
    await connection.execute(_TABLE)
    row = await (
        await connection.execute("SELECT max(version) AS version FROM holdfast_migration")
    ).fetchone()
    current = (row and row["version"]) or 0
    known = versions()
    newest = known[-1][0]
    if current > newest:
        raise EngineError(
            f"The database has schema version {current}, made by a newer engine; this one knows {newest}. "
            "Use the newer engine, or restore a backup from before its migration."
        )
    before = len(applied)
    for version, path in known:
        if version <= current:
            continue
        # One transaction a file: it is applied whole, with its row, or not at all.
        async with connection.transaction():
            await connection.execute(path.read_text(encoding="utf-8"))
            await connection.execute(
                "INSERT INTO holdfast_migration (version, name) VALUES (%s, %s)", [version, path.stem]
            )
        applied.append(path.stem)
    if applied[before:]:
        await logger.ainfo("Applied migrations", migrations=applied[before:])


async def _setup_store(connection: Connection, index: dict[str, Any] | None) -> None:
    from langgraph.store.postgres.aio import AsyncPostgresStore

    if index:
        try:
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.Error as error:
            raise EngineError(
                f"store.index in langgraph.json needs pgvector, which this Postgres does not give: "
                f"{_one_line(error)}. Install the extension `vector`, or remove store.index."
            ) from error
    store = AsyncPostgresStore(connection, index=index)  # type: ignore[arg-type]
    await store.setup()
    for addition in store_rows.ADDITIONS:
        await connection.execute(addition)
    if index:
        await store_rows.check_dimensions(connection, index["dims"])


def _one_line(text: object) -> str:
    return re.sub(r"\s+", " ", str(text)).strip()
