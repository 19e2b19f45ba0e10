"""Aegra's database: its checkpoints and items are LangGraph's own; what it keeps beside them is read here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.moving.content import OldAssistant, OldCron, OldThread
from langgraph_runtime_holdfast.moving.sql_source import SqlSource

_OWN: Final = """
SELECT array(SELECT name FROM unnest(ARRAY['assistant', 'assistant_versions', 'thread', 'runs']) AS name
             WHERE to_regclass(name) IS NULL) AS missing,
       to_regclass('crons') IS NOT NULL AS crons, to_regclass('thread_ttl') IS NOT NULL AS ttl
"""
_PAGE: Final = 500
_IDS: Final = "SELECT thread_id FROM thread WHERE thread_id > %(after)s ORDER BY thread_id LIMIT %(page)s"
_THREAD: Final = """
SELECT thread.status, thread.metadata_json AS metadata, thread.user_id, thread.created_at, thread.updated_at,
       (SELECT string_agg(run_id, ', ') FROM runs
        WHERE runs.thread_id = thread.thread_id AND runs.status IN ('pending', 'running')) AS running,
       (SELECT assistant.graph_id FROM runs JOIN assistant USING (assistant_id)
        WHERE runs.thread_id = thread.thread_id ORDER BY runs.created_at DESC LIMIT 1) AS graph_id,
       EXISTS (SELECT FROM checkpoints WHERE checkpoints.thread_id = thread.thread_id) AS has_checkpoints
FROM thread WHERE thread_id = %(id)s
"""
_WITHOUT_ROW: Final = """
SELECT count(DISTINCT thread_id) AS count FROM checkpoints
WHERE NOT EXISTS (SELECT FROM thread WHERE thread.thread_id = checkpoints.thread_id)
"""
_ASSISTANTS: Final = """
SELECT assistant.*, (SELECT coalesce(jsonb_agg(to_jsonb(kept) ORDER BY kept.version), '[]')
                     FROM assistant_versions AS kept
                     WHERE kept.assistant_id = assistant.assistant_id) AS versions
FROM assistant ORDER BY created_at
"""
_RUNS: Final = """
SELECT count(*) FILTER (WHERE status IN ('pending', 'running')) AS running, count(*) AS all FROM runs
"""
_SYSTEM: Final = "system"
"""Who made what Aegra makes of each graph by itself."""


class AegraSource(SqlSource):
    """A database that Aegra has migrated."""

    kind = "Aegra"
    owner_key = "owner"
    """Under which key a thread's metadata says whose it is."""

    @classmethod
    async def _check(cls, connection: AsyncConnection[DictRow], there: DictRow, where: str) -> None:
        own = await (await connection.execute(_OWN)).fetchone()
        assert own is not None
        if own["missing"]:
            raise EngineError(
                f"The source at {where} is not Aegra's: it has no table {', '.join(own['missing'])}. A "
                "database of AsyncPostgresSaver alone is read by `holdfast import postgres`."
            )
        await super()._check(connection, there, where)
        there |= {"crons": own["crons"], "expires": own["ttl"]}

    async def threads(self) -> AsyncIterator[OldThread]:
        """Each thread, in a transaction that sees one moment."""
        counted = await self._row(_RUNS)
        self.notes.append(f"{counted['all']} runs stay there, as records; what they did is in their threads")
        if counted["running"]:
            self.notes.append(f"{counted['running']} runs wait or run there: their threads are left")
        if without := (await self._row(_WITHOUT_ROW))["count"]:
            self.notes.append(f"{without} threads have checkpoints and no row there; they are not brought")
        after = ""
        while True:
            cursor = await self.connection.execute(_IDS, {"after": after, "page": _PAGE})
            page = [row["thread_id"] for row in await cursor.fetchall()]
            for each in page:
                async with self._one_moment():
                    yield await self._whole(each)
            if len(page) < _PAGE:
                return
            after = page[-1]

    async def _whole(self, thread_id: str) -> OldThread:
        row = await self._row(_THREAD, {"id": thread_id})
        metadata = {**(row["metadata"] or {})}
        metadata.setdefault(self.owner_key, row["user_id"])
        common: dict[str, Any] = {
            "metadata": metadata,
            "created_at": row["created_at"],
            "updated_at": row["updated_at"],
            "is_error": row["status"] == "error",
        }
        if not row["has_checkpoints"]:
            fault = _busy(row["running"]) if row["running"] else ""
            return OldThread(thread_id, f"empty {row['updated_at']}", is_empty=True, fault=fault, **common)
        saved = await self._thread(thread_id)
        graph_id = metadata.get("graph_id") or row["graph_id"] or saved.graph_id
        return OldThread(
            thread_id,
            saved.fingerprint,
            graph_id=graph_id,
            traits={**saved.traits, **{k: v for k, v in metadata.items() if isinstance(v, str)}},
            fault=_busy(row["running"]) if row["running"] else saved.fault,
            **common,
        )

    async def assistants(self) -> AsyncIterator[OldAssistant]:
        """Each assistant that a user made."""
        cursor = await self.connection.execute(_ASSISTANTS)
        for row in await cursor.fetchall():
            if row["user_id"] == _SYSTEM:
                continue
            versions = row["versions"] or [row]
            for each in versions:
                each["metadata"] = {self.owner_key: row["user_id"], **(each["metadata"] or {})}
            yield OldAssistant(
                row["assistant_id"], row["version"], versions, row["created_at"], row["updated_at"]
            )

    async def crons(self) -> AsyncIterator[OldCron]:
        """Each cron; those on an assistant that Aegra made of a graph are here on this server's own."""
        if not self._there["crons"]:
            return
        statement = (
            "SELECT crons.*, assistant.graph_id, assistant.user_id AS maker "
            "FROM crons JOIN assistant USING (assistant_id) ORDER BY crons.created_at"
        )
        cursor = await self.connection.execute(statement)
        for row in await cursor.fetchall():
            payload = row["payload"] or {}
            yield OldCron(
                row["cron_id"],
                _own(row["graph_id"]) if row["maker"] == _SYSTEM else row["assistant_id"],
                row["schedule"],
                payload,
                row["thread_id"],
                row["user_id"],
                payload.get("timezone"),
                row["end_time"],
                {self.owner_key: row["user_id"], **(row["metadata"] or {})},
                row["on_run_completed"],
                row["enabled"],
            )

    async def _row(self, statement: Any, parameters: Any = None) -> DictRow:
        row = await (await self.connection.execute(statement, parameters)).fetchone()
        assert row is not None
        return row


def _busy(runs: str) -> str:
    return f"runs wait or run on it there ({runs}): let them end, and import again"


def _own(graph_id: str) -> str:
    from langgraph_api.graph import get_assistant_id

    return str(get_assistant_id(graph_id))
