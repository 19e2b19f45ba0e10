"""Locks that stand in everybody's way, as an ALTER TABLE or a CREATE INDEX takes them."""

from __future__ import annotations

import asyncio
from typing import Literal

from psycopg import errors, sql

from tests.faults.rig.postgres import Postgres

Mode = Literal["ACCESS EXCLUSIVE", "SHARE"]
# Whichever of them the schema has: claims go by one of them, creates write to both.
_TABLES = """
SELECT relname FROM pg_class JOIN pg_namespace AS space ON space.oid = relnamespace
WHERE relkind = 'r' AND relname IN ('run', 'run_inflight') AND nspname = 'public' ORDER BY relname
"""


async def lock_runs(
    postgres: Postgres, mode: Mode, seconds: float, granted: asyncio.Event | None = None
) -> None:
    """Hold a lock on the tables of runs for so long, from when it is granted."""
    tables = [sql.Identifier(name) for (name,) in await postgres.ask(_TABLES)]
    statement = sql.SQL("LOCK TABLE {} IN {} MODE").format(sql.SQL(", ").join(tables), sql.SQL(mode))
    while True:
        try:
            async with await postgres.connect() as connection, connection.transaction():
                await connection.execute(statement)
                if granted is not None:
                    granted.set()
                await asyncio.sleep(seconds)
                return
        except errors.DeadlockDetected:  # we met a transaction that locks them in the other order
            continue
