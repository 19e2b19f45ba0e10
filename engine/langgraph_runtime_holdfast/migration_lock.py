"""One migrates at a time, and nobody waits long for those who only read.

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
from typing import Final

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from langgraph_runtime_holdfast.errors import EngineError

LOCK: Final = 0x686F6C6466617374  # "holdfast" in ASCII; any constant of our own would do
_POLL_SECONDS: Final = 0.1
_HOLDER: Final = """
SELECT a.pid, a.state, left(a.query, 200) AS query, a.application_name,
       extract(epoch FROM now() - coalesce(a.xact_start, a.query_start, a.backend_start))::int AS seconds
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %(high)s AND l.objid = %(low)s
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
LIMIT 1
"""
# Whoever has used a table of this database longest; those of Postgres itself have lower numbers.
_IN_THE_WAY: Final = """
SELECT a.pid, a.state, left(a.query, 200) AS query, a.application_name,
       extract(epoch FROM now() - a.xact_start)::int AS seconds
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND EXISTS (
    SELECT FROM pg_locks l
    WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation' AND l.relation >= 16384
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
ORDER BY a.xact_start LIMIT 1
"""

Connection = AsyncConnection[DictRow]


@asynccontextmanager
async def migration_lock(connection: Connection, timeout_seconds: float) -> AsyncIterator[None]:
    """Keep everybody else from migrating the database while the block runs.

    Raises:
        EngineError: Somebody else migrates it for longer than that; says who.
    """
    # CREATE INDEX CONCURRENTLY, on the other connection, waits for all statements under way and for old
    # snapshots. A transaction between two statements has none; one that waited for the lock would be a
    # deadlock: so the lock is polled, each time in a transaction of its own, which keeps no pooler busy.
    deadline = time.monotonic() + timeout_seconds
    while True:
        async with connection.transaction():
            if await _take(connection):
                yield
                return
        if time.monotonic() > deadline:
            raise EngineError(await _who_migrates(connection, timeout_seconds))
        await asyncio.sleep(_POLL_SECONDS)


async def _take(connection: Connection) -> bool:
    cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(%s) AS taken", [LOCK])
    row = await cursor.fetchone()
    if row is None or not row["taken"]:
        return False
    await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    return True


async def _who_migrates(connection: Connection, timeout_seconds: float) -> str:
    key = {"high": LOCK >> 32, "low": LOCK & 0xFFFFFFFF}
    row = await (await connection.execute(_HOLDER, key)).fetchone()
    if row is None:
        return (
            f"The migrations could not begin within {timeout_seconds:g} s; the lock is free now: start again."
        )
    return f"The migrations wait for {_process(row)}, which has held the lock {_since(row)}"


async def who_is_in_the_way(connection: Connection) -> str:
    """Name the oldest transaction that works on the tables, and what to do about it."""
    row = await (await connection.execute(_IN_THE_WAY)).fetchone()
    if row is None:
        return "Who it was has gone meanwhile: start again."
    return f"It is most likely {_process(row)}, in a transaction {_since(row)}"


def _process(row: DictRow) -> str:
    return f"process {row['pid']} ({row['application_name'] or 'unnamed'}, {row['state']})"


def _since(row: DictRow) -> str:
    query = re.sub(r"\s+", " ", str(row["query"])).strip()
    return (
        f"for {row['seconds']} s with: {query}. "
        f"Let it finish, or end it with SELECT pg_terminate_backend({row['pid']})."
    )
