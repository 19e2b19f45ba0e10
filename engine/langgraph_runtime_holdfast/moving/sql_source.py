"""A Postgres database that is read: its checkpoints, in the tables of LangGraph's own library, and its store.

Also the part that all sources have in common which keep their checkpoints so. Each thread is read in a
transaction of its own which sees one moment, so what a program writes meanwhile tears none apart.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow, dict_row

from langgraph_runtime_holdfast.database import Transaction
from langgraph_runtime_holdfast.dsn import described, libpq_dsn
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.moving import rows
from langgraph_runtime_holdfast.moving.content import (
    NotTakenError,
    OldAssistant,
    OldCron,
    OldItem,
    OldThread,
)

_PAGE: Final = 500
_ITEMS: Final = 100
_THERE: Final = """
SELECT to_regclass('checkpoints') IS NOT NULL AND to_regclass('checkpoint_blobs') IS NOT NULL
       AND to_regclass('checkpoint_writes') IS NOT NULL AS checkpoints,
       to_regclass('checkpoint_migrations') IS NOT NULL AS migrations,
       to_regclass('store') IS NOT NULL AS store,
       EXISTS (SELECT FROM information_schema.columns WHERE table_name = 'checkpoint_writes'
               AND table_schema = current_schema() AND column_name = 'task_path') AS paths,
       EXISTS (SELECT FROM information_schema.columns WHERE table_name = 'store'
               AND table_schema = current_schema() AND column_name = 'ttl_minutes') AS ttl
"""
_IDS: Final = """
SELECT DISTINCT thread_id FROM checkpoints WHERE %(after)s::text IS NULL OR thread_id > %(after)s
ORDER BY thread_id LIMIT %(page)s
"""
_ONE: Final = """
SELECT first.checkpoint ->> 'ts' AS created_at, last.checkpoint ->> 'ts' AS updated_at, last.metadata,
       (SELECT coalesce(string_agg(DISTINCT type, ', '), '') FROM (
            SELECT type FROM checkpoint_blobs WHERE thread_id = %(id)s
            UNION SELECT type FROM checkpoint_writes WHERE thread_id = %(id)s
        ) AS types WHERE type LIKE '%%+%%') AS sealed
FROM (SELECT checkpoint FROM checkpoints WHERE thread_id = %(id)s AND checkpoint_ns = ''
      ORDER BY checkpoint_id LIMIT 1) AS first,
     (SELECT checkpoint, metadata FROM checkpoints WHERE thread_id = %(id)s AND checkpoint_ns = ''
      ORDER BY checkpoint_id DESC LIMIT 1) AS last
"""
_STORE: Final = """
SELECT prefix, key, value, created_at, updated_at{ttl} FROM store
WHERE (prefix, key) > (%(prefix)s, %(key)s) ORDER BY prefix, key LIMIT %(page)s
"""


class SqlSource:
    """A database with LangGraph's own tables, as `AsyncPostgresSaver` and `AsyncPostgresStore` make them."""

    kind = "AsyncPostgresSaver"
    copies_rows = True

    def __init__(self, connection: AsyncConnection[DictRow], there: DictRow) -> None:
        """Read over this connection; `there` says which tables it finds."""
        self.connection = connection
        self.notes: list[str] = []
        self._there = there

    @classmethod
    @asynccontextmanager
    async def opened(cls, address: str) -> AsyncIterator[Self]:
        """Connect.

        Raises:
            EngineError: The database cannot be reached, or has no such tables.
        """
        dsn = libpq_dsn(address, variable="The source")
        try:
            made = await AsyncConnection.connect(
                # A standby is read as well.
                dsn.replace("target_session_attrs=read-write", "target_session_attrs=any"),
                autocommit=True,
                row_factory=dict_row,
                prepare_threshold=None,
            )
        except psycopg.OperationalError as error:
            raise EngineError(
                f"The source at {described(dsn)} cannot be used: {_one_line(error)}. See that it runs, and "
                "that address, user and password are right."
            ) from error
        async with made:
            there = await _one(made, _THERE)
            await cls._check(made, there, described(dsn))
            yield cls(made, there)

    @classmethod
    async def _check(cls, connection: AsyncConnection[DictRow], there: DictRow, where: str) -> None:
        """Refuse a database that is none.

        Raises:
            EngineError: It is none.
        """
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        if not there["checkpoints"]:
            schema = (await _one(connection, "SELECT current_schema() AS name"))["name"]
            raise EngineError(
                f"The source at {where} has no tables of AsyncPostgresSaver (checkpoints, checkpoint_blobs, "
                f"checkpoint_writes) in the schema {schema}. If they are in another one, add "
                "?options=-csearch_path%3DSCHEMA to its address."
            )
        if there["migrations"]:
            last = (await _one(connection, "SELECT max(v) AS last FROM checkpoint_migrations"))["last"]
            known = len(AsyncPostgresSaver.MIGRATIONS) - 1
            if last is not None and last > known:
                raise EngineError(
                    f"The source at {where} was made by a newer langgraph-checkpoint-postgres (version "
                    f"{last} of its tables; {known} is known here). Use a Holdfast that has it."
                )

    async def threads(self) -> AsyncIterator[OldThread]:
        """Each thread that has checkpoints, in a transaction that sees one moment."""
        async for thread_id in self._ids():
            async with self._one_moment():
                yield await self._thread(thread_id)

    async def _ids(self) -> AsyncIterator[str]:
        # The library takes an empty id as well.
        after: str | None = None
        while True:
            cursor = await self.connection.execute(_IDS, {"after": after, "page": _PAGE})
            page = [row["thread_id"] for row in await cursor.fetchall()]
            for each in page:
                yield each
            if len(page) < _PAGE:
                return
            after = page[-1]

    @asynccontextmanager
    async def _one_moment(self) -> AsyncIterator[None]:
        async with self.connection.transaction():
            await self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    async def _thread(self, thread_id: str) -> OldThread:
        digest = (await _one(self.connection, rows.FINGERPRINT, {"id": thread_id}))["fingerprint"]
        cursor = await self.connection.execute(_ONE, {"id": thread_id})
        found = await cursor.fetchone()
        if found is None:
            return OldThread(thread_id, digest, fault="it has checkpoints of subgraphs only")
        metadata = found["metadata"] or {}
        graph_id = metadata.get("graph_id")
        return OldThread(
            thread_id,
            digest,
            created_at=_moment(found["created_at"]),
            updated_at=_moment(found["updated_at"]),
            graph_id=graph_id if isinstance(graph_id, str) else None,
            traits={name: value for name, value in metadata.items() if isinstance(value, str)},
            fault=_sealed(found["sealed"]),
        )

    async def write(self, thread: OldThread, tx: Transaction, new_id: UUID, graph_id: str) -> None:
        """Copy the thread's rows."""
        for table in rows.TABLES:
            found = rows.read_rows(
                self.connection, table, thread.thread_id, has_paths=bool(self._there["paths"])
            )
            await rows.write_rows(tx, table, new_id, found)

    async def difference(self, thread: OldThread, tx: Transaction, new_id: UUID, graph_id: str) -> str:
        """Compare every row by its digest."""
        here = await rows.fingerprint(tx, new_id)
        if here == thread.fingerprint:
            return ""
        counted = [int(each.strip("()").split(",")[0]) for each in (here, thread.fingerprint)]
        return f"it has {counted[0]} checkpoints here and {counted[1]} there, or others"

    async def assistants(self) -> AsyncIterator[OldAssistant]:
        """None."""
        nothing: list[OldAssistant] = []
        for each in nothing:
            yield each

    async def crons(self) -> AsyncIterator[OldCron]:
        """None."""
        nothing: list[OldCron] = []
        for each in nothing:
            yield each

    async def items(self) -> AsyncIterator[OldItem]:
        """Each item of AsyncPostgresStore, if it is there too."""
        if not self._there["store"]:
            return
        ttl = ", expires_at, ttl_minutes" if self._there["ttl"] else ""
        statement = sql.SQL(_STORE).format(ttl=sql.SQL(ttl))
        at = {"prefix": "", "key": "", "page": _ITEMS}
        while True:
            page = await (await self.connection.execute(statement, at)).fetchall()
            for row in page:
                yield OldItem(
                    tuple(row["prefix"].split(".")),
                    row["key"],
                    row["value"],
                    row["created_at"],
                    row["updated_at"],
                    row.get("ttl_minutes"),
                    row.get("expires_at"),
                )
            if len(page) < _ITEMS:
                return
            at |= {"prefix": page[-1]["prefix"], "key": page[-1]["key"]}


def _sealed(kinds: str) -> str:
    if not kinds:
        return ""
    return (
        f"its values are encrypted ({kinds}), and only its own program has the key: have that one save it "
        "without encryption first"
    )


async def _one(connection: AsyncConnection[DictRow], statement: Any, parameters: Any = None) -> DictRow:
    row = await (await connection.execute(statement, parameters)).fetchone()
    assert row is not None
    return row


def _moment(text: str | None) -> Any:
    from datetime import datetime

    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")


__all__ = ["NotTakenError", "SqlSource"]
