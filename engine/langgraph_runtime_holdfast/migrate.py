"""Migrations: plain SQL files in order, under a lock, so that any number of servers may start at once.

The checkpointer and the store bring migrations of their own; they run here too, behind the same lock, because
two of them at once deadlock or fail.

Servers work on meanwhile. Who asks for a table waits behind a migration that waits for it, so a migration
waits for two seconds only, lets all the others through, and tries again.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from typing import Any, Final

import psycopg
import structlog
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow, dict_row

from langgraph_runtime_holdfast import checkpoint_rows, schema_files, schema_state, store_rows
from langgraph_runtime_holdfast.dsn import CONNECTION_CURE, described
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.foreign import CURE, names_of_ours, who_else
from langgraph_runtime_holdfast.migration_lock import migration_lock, who_is_in_the_way
from langgraph_runtime_holdfast.pool import is_pooled
from langgraph_runtime_holdfast.schema_files import LAST_OF_THE_FIRST_TABLE, Migration

logger = structlog.stdlib.get_logger(__name__)

OLDEST_POSTGRES: Final = 140_000
LOCK_SECONDS: Final = 2.0
"""How long a migration waits for a table, and so how long it can hold up whoever asks for it meanwhile."""
_PAUSE_SECONDS: Final = 1.0
_OF_LIBRARIES: Final = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "store", "store_vectors")
# What a CREATE INDEX CONCURRENTLY or a REINDEX left which did not get to its end; not what is being made now.
_BROKEN: Final = """
SELECT made.relname AS name
FROM pg_index JOIN pg_class AS made ON made.oid = indexrelid JOIN pg_class AS of ON of.oid = indrelid
WHERE NOT indisvalid AND made.relnamespace = quote_ident(current_schema())::regnamespace
  AND (of.relname = ANY(%(tables)s) OR regexp_replace(made.relname, '_ccnew[0-9]*$', '') = ANY(%(names)s))
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS now WHERE now.index_relid = indexrelid)
"""

Connection = AsyncConnection[DictRow]


async def migrate(
    dsn: str, *, timeout_seconds: float, store_index: dict[str, Any] | None = None
) -> list[str]:
    """Bring the database to this engine's schema; safe to repeat and to run many times at once.

    Args:
        dsn: The database, for libpq.
        timeout_seconds: How long to wait for somebody else's migrations, or to try for tables in use.
        store_index: The store's `index` configuration with a resolved embedding, if vectors are wanted.

    Returns:
        The names of the migrations that were applied, and of the functions that were made.

    Raises:
        EngineError: The database cannot be reached, is too old or too new or somebody else's, lacks pgvector
            although vectors are wanted, or another process holds the lock; the message says which and what
            to do.
    """
    applied: list[str] = []
    deadline = time.monotonic() + timeout_seconds
    try:
        while True:
            try:
                await _migrate_once(dsn, deadline, store_index, applied)
                break
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                # With somebody who works on the tables; nothing of the file at hand was done.
                in_the_way = await _who_is_in_the_way(dsn)
                if time.monotonic() + _PAUSE_SECONDS > deadline:
                    raise EngineError(
                        f"The migrations tried for {timeout_seconds:g} s, and somebody else has a table in "
                        f"use: {_one_line(error)}. {in_the_way}"
                    ) from error
                await logger.awarning(
                    "A migration let others through and is tried again",
                    error=_one_line(error),
                    held=in_the_way,
                )
            # They all wait behind it; a moment in which it does not ask lets them through.
            await asyncio.sleep(_PAUSE_SECONDS * random.uniform(1.0, 2.0))  # noqa: S311 - spreads load
    except psycopg.Error as error:
        raise EngineError(f"The migrations failed at {described(dsn)}: {_one_line(error)}") from error
    return applied


async def _migrate_once(
    dsn: str, deadline: float, store_index: dict[str, Any] | None, applied: list[str]
) -> None:
    async with await _connect(dsn) as connection, await _connect(dsn) as lock_connection:
        _check_server(connection)
        async with migration_lock(lock_connection, max(0.0, deadline - time.monotonic())):
            waits = _Waits(connection, is_pooled=await is_pooled(connection), deadline=deadline)
            await _apply(connection, waits, applied)
            await waits.limit(LOCK_SECONDS)
            await AsyncPostgresSaver(connection).setup()
            for addition in checkpoint_rows.ADDITIONS:
                await connection.execute(addition)
            await _setup_store(connection, store_index)
            await _create_functions(connection, applied)
            await _repair_indexes(connection, waits)


class _Waits:
    """How long statements on a connection may wait for a table."""

    def __init__(self, connection: Connection, *, is_pooled: bool, deadline: float) -> None:
        self._connection, self._is_pooled, self._deadline = connection, is_pooled, deadline

    async def limit(self, seconds: float) -> None:
        """From now on; behind a pooler, where it would be a setting of whoever comes next, for nothing."""
        if not self._is_pooled:
            await self._connection.execute(f"SET lock_timeout = {int(seconds * 1000)}")

    async def limit_alone(self) -> None:
        """As long as there is time, for an index that is made beside the traffic: nobody waits behind it."""
        await self.limit(max(1.0, self._deadline - time.monotonic()))

    async def limit_transaction(self) -> None:
        """In this transaction, behind a pooler too."""
        await self._connection.execute(f"SET LOCAL lock_timeout = {int(LOCK_SECONDS * 1000)}")


async def _connect(dsn: str) -> Connection:
    try:
        return await AsyncConnection.connect(
            dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None
        )
    except psycopg.OperationalError as error:
        raise EngineError(
            f"Postgres at {described(dsn)} cannot be used: {_one_line(error)}. {CONNECTION_CURE}"
        ) from error


def _check_server(connection: Connection) -> None:
    if connection.info.server_version < OLDEST_POSTGRES:
        raise EngineError(
            f"Postgres is version {connection.info.server_version // 10_000}; {OLDEST_POSTGRES // 10_000} or "
            "newer is needed."
        )


async def _who_is_in_the_way(dsn: str) -> str:
    async with await _connect(dsn) as connection:
        return await who_is_in_the_way(connection)


async def _apply(connection: Connection, waits: _Waits, applied: list[str]) -> None:
    if owner := await who_else(connection):
        raise EngineError(
            f"The database {connection.info.dbname} is not this engine's: {owner}. "
            f"Nothing in it was changed. {CURE}"
        )
    await connection.execute(schema_state.TABLES)
    state = await schema_state.read_state(connection)
    state.refuse_if_too_new()
    before = len(applied)
    for migration in schema_files.migrations():
        if migration.version not in state.applied:
            await _apply_one(connection, waits, migration)
            applied.append(migration.name)
    if applied[before:]:
        await logger.ainfo("Applied migrations", migrations=applied[before:])


async def _apply_one(connection: Connection, waits: _Waits, migration: Migration) -> None:
    # One transaction a file: it is applied whole, with its row, or not at all.
    if not migration.alone:
        async with connection.transaction():
            await waits.limit_transaction()
            await connection.execute(migration.text)
            await _record(connection, migration)
        return
    await _repair_indexes(connection, waits)
    await waits.limit_alone()
    for statement in migration.alone:
        await connection.execute(statement)
    await _record(connection, migration)


async def _record(connection: Connection, migration: Migration) -> None:
    if migration.version <= LAST_OF_THE_FIRST_TABLE:
        await connection.execute(
            "INSERT INTO holdfast_migration (version, name) VALUES (%s, %s)",
            [migration.version, migration.name],
        )
    else:
        await connection.execute(
            "INSERT INTO holdfast_schema (version, name, minimum_version) VALUES (%s, %s, %s)",
            [migration.version, migration.name, migration.minimum_version],
        )


async def _create_functions(connection: Connection, applied: list[str]) -> None:
    missing = (await schema_state.read_state(connection)).missing_functions
    if not missing:
        return
    texts = schema_files.functions()
    async with connection.transaction():
        for name in missing:
            await connection.execute(texts[name])
    applied += missing
    await logger.ainfo("Created functions", functions=missing)


async def _repair_indexes(connection: Connection, waits: _Waits) -> None:
    """Make those valid whose making broke off: nobody reads them, and IF NOT EXISTS takes them for done."""
    ours = {"tables": list(_OF_LIBRARIES), "names": sorted(names_of_ours())}
    broken = await (await connection.execute(_BROKEN, ours)).fetchall()
    await waits.limit_alone()
    for row in broken:
        # A REINDEX makes a new one beside the old one, which stays if it breaks off.
        is_scrap = re.search(r"_ccnew\d*$", row["name"])
        how = "DROP INDEX CONCURRENTLY {}" if is_scrap else "REINDEX INDEX CONCURRENTLY {}"
        await connection.execute(sql.SQL(how).format(sql.Identifier(row["name"])))
        await logger.awarning("An index whose making had broken off was made anew", index=row["name"])


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
