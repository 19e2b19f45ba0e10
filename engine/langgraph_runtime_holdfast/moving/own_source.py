"""This engine's own database, for taking everything out of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.moving import rows
from langgraph_runtime_holdfast.moving.content import OldAssistant, OldCron, OldThread
from langgraph_runtime_holdfast.moving.sql_source import SqlSource

_PAGE: Final = 500
_IDS: Final = """
SELECT thread_id FROM thread WHERE %(after)s::uuid IS NULL OR thread_id > %(after)s
ORDER BY thread_id LIMIT %(page)s
"""
_THREAD: Final = """
SELECT thread_id, status, metadata, created_at, updated_at,
       EXISTS (SELECT FROM run_inflight WHERE run_inflight.thread_id = thread.thread_id) AS is_busy,
       EXISTS (SELECT FROM checkpoints AS saved WHERE saved.thread_id = thread.thread_id::text) AS is_saved
FROM thread WHERE thread_id = %(id)s
"""
_ASSISTANTS: Final = """
SELECT assistant.*, (SELECT jsonb_agg(to_jsonb(kept) ORDER BY kept.version) FROM assistant_version AS kept
                     WHERE kept.assistant_id = assistant.assistant_id) AS versions
FROM assistant WHERE coalesce(metadata ->> 'created_by', '') <> 'system' ORDER BY created_at
"""


class OwnSource(SqlSource):
    """A database of this engine."""

    kind = "Holdfast"

    @classmethod
    async def _check(cls, connection: AsyncConnection[DictRow], there: DictRow, where: str) -> None:
        known = await (await connection.execute("SELECT to_regclass('run_inflight') AS it")).fetchone()
        if known is None or known["it"] is None:
            raise EngineError(f"The database at {where} has no schema of this engine, or an older one.")
        await super()._check(connection, there, where)

    async def threads(self) -> AsyncIterator[OldThread]:
        """Each thread, in a transaction that sees one moment."""
        after: Any = None
        while True:
            cursor = await self.connection.execute(_IDS, {"after": after, "page": _PAGE})
            page = [row["thread_id"] for row in await cursor.fetchall()]
            for each in page:
                async with self._one_moment():
                    found = await (await self.connection.execute(_THREAD, {"id": each})).fetchone()
                    if found is not None:
                        yield await self._whole(found)
            if len(page) < _PAGE:
                return
            after = page[-1]

    async def _whole(self, row: DictRow) -> OldThread:
        thread_id = str(row["thread_id"])
        cursor = await self.connection.execute(rows.FINGERPRINT, {"id": thread_id})
        digest = await cursor.fetchone()
        assert digest is not None
        return OldThread(
            thread_id,
            digest["fingerprint"],
            metadata=row["metadata"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            graph_id=row["metadata"].get("graph_id"),
            fault="a run works on it, or waits to: let it end, and export again" if row["is_busy"] else "",
            is_empty=not row["is_saved"],
            is_error=row["status"] == "error",
        )

    async def assistants(self) -> AsyncIterator[OldAssistant]:
        """Each assistant that somebody made."""
        for row in await (await self.connection.execute(_ASSISTANTS)).fetchall():
            yield OldAssistant(
                str(row["assistant_id"]),
                row["version"],
                row["versions"],
                row["created_at"],
                row["updated_at"],
            )

    async def crons(self) -> AsyncIterator[OldCron]:
        """Each cron."""
        cursor = await self.connection.execute("SELECT * FROM cron ORDER BY created_at")
        for row in await cursor.fetchall():
            yield OldCron(
                str(row["cron_id"]),
                str(row["assistant_id"]),
                row["schedule"],
                row["payload"],
                None if row["thread_id"] is None else str(row["thread_id"]),
                row["user_id"],
                row["timezone"],
                row["end_time"],
                row["metadata"],
                row["on_run_completed"],
                row["enabled"],
            )
