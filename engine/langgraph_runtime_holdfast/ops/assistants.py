"""Assistants: a graph with a configuration under a name, and the history of its versions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal, cast
from uuid import UUID

import structlog
from langgraph_sdk import Auth
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.database import Executor, Handle, Row, connect
from langgraph_runtime_holdfast.ops.authenticated import Authenticated
from langgraph_runtime_holdfast.ops.encryption import decrypted, encrypted
from langgraph_runtime_holdfast.ops.filters import allows, restrict
from langgraph_runtime_holdfast.ops.statement import (
    Conditions,
    as_uuid,
    bounded_text,
    json_text,
    order_by,
    page,
    selected,
    without_nul,
)
from langgraph_runtime_holdfast.retry import create_under_one_id

logger = structlog.stdlib.get_logger(__name__)

Context = Auth.types.BaseAuthContext
Rows = AsyncIterator[dict[str, Any]]

_SECRET_FIELDS: Final = ("config", "context", "metadata")
_FIELDS: Final = (
    "assistant_id, graph_id, name, description, version, config, context, metadata, created_at, updated_at"
)
_SORTS: Final = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "name": "lower(name)",
    "graph_id": "lower(graph_id)",
    "assistant_id": "assistant_id",
}
_VERSION_COLUMNS: Final = "assistant_id, version, graph_id, name, description, config, context, metadata"
_INSERT: Final = f"""
WITH made AS (
    INSERT INTO assistant (assistant_id, graph_id, name, description, config, context, metadata,
                           created_at, updated_at)
    VALUES (%(assistant_id)s, %(graph_id)s, %(name)s, %(description)s, %(config)s::jsonb, %(context)s::jsonb,
            %(metadata)s::jsonb, %(now)s, %(now)s)
    ON CONFLICT (assistant_id) DO NOTHING
    RETURNING {_FIELDS}
), first_version AS (
    INSERT INTO assistant_version ({_VERSION_COLUMNS}, created_at)
    SELECT {_VERSION_COLUMNS}, created_at FROM made
)
SELECT * FROM made
"""  # noqa: S608 - constants
_ONE: Final = f"SELECT {_FIELDS} FROM assistant WHERE assistant_id = %(assistant_id)s"  # noqa: S608
_ADD_VERSION: Final = f"""
WITH added AS (
    INSERT INTO assistant_version ({_VERSION_COLUMNS}, created_at)
    SELECT %(assistant_id)s, coalesce(max(version), 0) + 1, %(graph_id)s, %(name)s, %(description)s,
           %(config)s::jsonb, %(context)s::jsonb, %(metadata)s::jsonb, now()
    FROM assistant_version WHERE assistant_id = %(assistant_id)s
    RETURNING {_VERSION_COLUMNS}, created_at
)
UPDATE assistant SET graph_id = added.graph_id, name = added.name, description = added.description,
    version = added.version, config = added.config, context = added.context, metadata = added.metadata,
    updated_at = added.created_at
FROM added WHERE assistant.assistant_id = added.assistant_id
RETURNING {", ".join(f"assistant.{name}" for name in _FIELDS.split(", "))}
"""  # noqa: S608
_NEWEST: Final = """
SELECT coalesce(max(version), 0) AS version FROM assistant_version WHERE assistant_id = %(assistant_id)s
"""
_ADDED_SINCE: Final = """
SELECT FROM assistant_version
WHERE assistant_id = %(assistant_id)s AND version > %(seen)s AND graph_id = %(graph_id)s AND name = %(name)s
  AND description IS NOT DISTINCT FROM %(description)s AND config = %(config)s::jsonb
  AND context = %(context)s::jsonb AND metadata = %(metadata)s::jsonb
"""
_SET_LATEST: Final = f"""
UPDATE assistant SET graph_id = kept.graph_id, name = kept.name, description = kept.description,
    version = kept.version, config = kept.config, context = kept.context, metadata = kept.metadata,
    updated_at = now()
FROM assistant_version AS kept
WHERE assistant.assistant_id = %(assistant_id)s
  AND kept.assistant_id = assistant.assistant_id AND kept.version = %(version)s::bigint
RETURNING {", ".join(f"assistant.{name}" for name in _FIELDS.split(", "))}
"""  # noqa: S608


class Assistants(Authenticated):
    """What the API calls for assistants."""

    resource: ClassVar[Literal["assistants"]] = "assistants"

    @staticmethod
    async def search(
        conn: Handle,
        *,
        graph_id: str | None,
        name: str | None,
        metadata: dict[str, Any] | None,
        limit: int,
        offset: int,
        sort_by: str | None = None,
        sort_order: str | None = None,
        select: Sequence[str] | None = None,
        ctx: Context | None = None,
    ) -> tuple[Rows, int | None]:
        """Find assistants, a page at a time, by default the newest first.

        Returns:
            The page, and the offset of the next one, or None after the last.

        Raises:
            HTTPException: 422, a value that no search can have.
        """
        conditions = await _wanted(
            graph_id=graph_id, name=name, metadata=metadata, limit=limit, offset=offset, ctx=ctx
        )
        order = order_by(sort_by, sort_order, _SORTS, "created_at")
        statement = (
            f"SELECT {_FIELDS} FROM assistant WHERE {conditions} "  # noqa: S608
            f"ORDER BY {order} {page(conditions, limit, offset)}"
        )
        rows = await conn.fetch(statement, conditions.parameters)
        following = offset + limit if len(rows) > limit else None
        return _each(selected(row, select) for row in rows[:limit]), following

    @staticmethod
    async def count(
        conn: Handle,
        *,
        graph_id: str | None = None,
        name: str | None = None,
        metadata: dict[str, Any] | None = None,
        ctx: Context | None = None,
    ) -> int:
        """Count the assistants that a search would find."""
        conditions = await _wanted(
            graph_id=graph_id, name=name, metadata=metadata, limit=0, offset=0, ctx=ctx
        )
        row = await conn.fetch_one(
            f"SELECT count(*) AS found FROM assistant WHERE {conditions}",  # noqa: S608
            conditions.parameters,
        )
        return int(row["found"]) if row else 0

    @staticmethod
    async def get(conn: Handle, assistant_id: UUID | str, ctx: Context | None = None) -> Rows:
        """Get one assistant; nothing if there is none, or none that the caller may see."""
        assistant_id = as_uuid(assistant_id, "assistant ID")
        filters = await Assistants.handle_event(
            ctx, "read", Auth.types.AssistantsRead(assistant_id=assistant_id)
        )
        conditions = _of(assistant_id, filters)
        return _each(
            await conn.fetch(
                f"SELECT {_FIELDS} FROM assistant WHERE {conditions}",  # noqa: S608
                conditions.parameters,
            )
        )

    @staticmethod
    async def put(
        conn: Handle,
        assistant_id: UUID | str,
        *,
        graph_id: str,
        config: dict[str, Any],
        context: dict[str, Any] | None,
        metadata: dict[str, Any] | None,
        if_exists: Literal["raise", "do_nothing"],
        name: str,
        ctx: Context | None = None,
        description: str | None = None,
        system: bool = False,
    ) -> Rows:
        """Create an assistant with its first version.

        Any number of servers may put the same one at once (each puts those of its graphs at start).

        Raises:
            HTTPException: 400, both configurable and context; 409, it exists already, whether the caller may
                see it or not.
        """
        from langgraph_api.graph import assert_graph_exists

        assistant_id = as_uuid(assistant_id, "assistant ID")
        plain = await decrypted(
            {"config": config, "context": context, "metadata": metadata or {}}, "assistant", _SECRET_FIELDS
        )
        filters = await Assistants.handle_event(
            ctx,
            "create",
            Auth.types.AssistantsCreate(
                assistant_id=assistant_id,
                graph_id=graph_id,
                config=plain["config"],
                context=plain["context"],
                metadata=plain["metadata"],
                name=name,
            ),
        )
        _mirror(plain)
        assert_graph_exists(graph_id)
        stored = plain if system else await encrypted(plain, "assistant", _SECRET_FIELDS)
        now = datetime.now(UTC)
        parameters = {
            **_parameters(assistant_id, graph_id, name, description, stored),
            "now": now,
        }

        async def create() -> Row | None:
            return await conn.fetch_one(_INSERT, parameters) or await conn.fetch_one(_ONE, parameters)

        row = await create_under_one_id(create)
        if row is None:  # deleted between the two statements
            return _each(())
        # The moment of creation tells this call's own row, even when its first answer was lost.
        if row["created_at"] != now:
            seen = await decrypted(row, "assistant", ["metadata"])
            if if_exists != "do_nothing" or not allows(seen["metadata"], filters):
                raise HTTPException(status_code=409, detail=f"Assistant {assistant_id} already exists")
        return _each((row,))

    @staticmethod
    async def patch(
        conn: Handle,
        assistant_id: UUID | str,
        *,
        config: dict[str, Any] | None = None,
        context: dict[str, Any] | None = None,
        graph_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        description: str | None = None,
        ctx: Context | None = None,
    ) -> Rows:
        """Change an assistant, which makes a new version; metadata is merged, the rest replaced.

        Raises:
            HTTPException: 400, both configurable and context; 404, there is no such assistant.
        """
        from langgraph_api.graph import assert_graph_exists

        assistant_id = as_uuid(assistant_id, "assistant ID")
        changes = await decrypted(
            {"config": config or {}, "context": context, "metadata": metadata or {}},
            "assistant",
            _SECRET_FIELDS,
        )
        filters = await Assistants.handle_event(
            ctx,
            "update",
            Auth.types.AssistantsUpdate(
                assistant_id=assistant_id,
                graph_id=graph_id,
                config=changes["config"],
                context=changes["context"],
                metadata=changes["metadata"],
                name=name,
            ),
        )
        _mirror(changes)
        if graph_id is not None:
            assert_graph_exists(graph_id)
        tried: dict[str, Any] | None = None

        async def change() -> Row | None:
            nonlocal tried
            async with conn.transaction() as tx:
                # Locked, so that patches at the same time follow one another and none is lost.
                current = await tx.fetch_one(f"{_ONE} FOR UPDATE", {"assistant_id": assistant_id})
                old = current and await decrypted(current, "assistant", _SECRET_FIELDS)
                if old is None or not allows(old["metadata"], filters):
                    raise HTTPException(status_code=404, detail=f"Assistant {assistant_id} not found")
                if tried is not None and await tx.fetch_one(_ADDED_SINCE, tried) is not None:
                    return current  # by an attempt whose answer was lost
                stored = await encrypted(
                    {
                        "config": changes["config"] or old["config"],
                        "context": old["context"] if changes["context"] is None else changes["context"],
                        "metadata": {**old["metadata"], **changes["metadata"]},
                    },
                    "assistant",
                    _SECRET_FIELDS,
                )
                row = _parameters(
                    assistant_id,
                    old["graph_id"] if graph_id is None else graph_id,
                    old["name"] if name is None else name,
                    old["description"] if description is None else description,
                    stored,
                )
                newest = await tx.fetch_one(_NEWEST, row)
                tried = {**row, "seen": newest and newest["version"]}
                return await tx.fetch_one(_ADD_VERSION, row)

        row = await create_under_one_id(change)
        return _each((row,) if row else ())

    @staticmethod
    async def delete(
        conn: Handle | None,
        assistant_id: UUID | str,
        ctx: Context | None = None,
        *,
        delete_threads: bool = False,
    ) -> AsyncIterator[UUID]:
        """Delete an assistant, its versions and crons, and end its runs.

        Args:
            conn: None takes a handle of its own.
            assistant_id: Which.
            ctx: Who asks.
            delete_threads: Also delete the threads it ran on last, where the caller may.

        Raises:
            HTTPException: 404, there is no such assistant.
        """
        from langgraph_runtime_holdfast.ops.runs import Runs

        if conn is None:
            async with connect() as own:
                return await Assistants.delete(own, assistant_id, ctx, delete_threads=delete_threads)
        assistant_id = as_uuid(assistant_id, "assistant ID")
        filters = await Assistants.handle_event(
            ctx, "delete", Auth.types.AssistantsDelete(assistant_id=assistant_id)
        )
        await _require(conn, assistant_id, filters, f"Assistant with ID {assistant_id} not found")
        if delete_threads:
            await _delete_threads(conn, assistant_id, ctx)
        await Runs.cancel(
            conn,
            assistant_id=assistant_id,
            action="interrupt",
            ctx=ctx,
            reason=f"assistant {assistant_id} was deleted",
        )
        await conn.execute("DELETE FROM assistant WHERE assistant_id = %(id)s", {"id": assistant_id})
        return _each((assistant_id,))

    @staticmethod
    async def set_latest(
        conn: Handle, assistant_id: UUID | str, version: int | None, ctx: Context | None = None
    ) -> Rows:
        """Make an assistant what it was in one of its versions.

        Raises:
            HTTPException: 404, there is no such assistant or version; 422, the version is no number.
        """
        assistant_id = as_uuid(assistant_id, "assistant ID")
        if version is None or not -(2**63) <= version < 2**63:
            raise HTTPException(status_code=422, detail="Invalid version: must be a version's number")
        filters = await Assistants.handle_event(
            ctx, "update", Auth.types.AssistantsUpdate(assistant_id=assistant_id, version=version)
        )
        await _require(conn, assistant_id, filters)
        rows = await conn.fetch(_SET_LATEST, {"assistant_id": assistant_id, "version": version})
        if not rows:
            raise HTTPException(
                status_code=404, detail=f"Version {version} not found for assistant {assistant_id}"
            )
        return _each(rows)

    @staticmethod
    async def get_versions(
        conn: Handle,
        assistant_id: UUID | str,
        metadata: dict[str, Any] | None,
        limit: int,
        offset: int,
        ctx: Context | None = None,
    ) -> Rows:
        """List the versions of an assistant, the newest first.

        Raises:
            HTTPException: 404, there is no such assistant.
        """
        assistant_id = as_uuid(assistant_id, "assistant ID")
        filters = await Assistants.handle_event(
            ctx, "read", Auth.types.AssistantsRead(assistant_id=assistant_id)
        )
        await _require(conn, assistant_id, None)
        conditions = _of(assistant_id, filters)
        conditions.contain("metadata", metadata)
        rows = await conn.fetch(
            f"SELECT {_VERSION_COLUMNS}, created_at FROM assistant_version WHERE {conditions} "  # noqa: S608
            f"ORDER BY version DESC {page(conditions, limit, offset)}",
            conditions.parameters,
        )
        return _each(rows[:limit])


async def _wanted(
    *,
    graph_id: str | None,
    name: str | None,
    metadata: dict[str, Any] | None,
    limit: int,
    offset: int,
    ctx: Context | None,
) -> Conditions:
    from langgraph_api.graph import assert_graph_exists

    filters = await Assistants.handle_event(
        ctx,
        "search",
        Auth.types.AssistantsSearch(graph_id=graph_id, metadata=metadata or {}, limit=limit, offset=offset),
    )
    if graph_id is not None:
        assert_graph_exists(graph_id)
    conditions = Conditions()
    if graph_id:
        conditions.equal("graph_id", graph_id)
    if without_nul(name, "name"):
        conditions.add(f"strpos(lower(name), lower({conditions.value(name)})) > 0")
    conditions.contain("metadata", metadata)
    restrict(conditions, filters, "assistant.metadata")
    return conditions


def _of(assistant_id: UUID, filters: Auth.types.FilterType | None) -> Conditions:
    conditions = Conditions()
    conditions.equal("assistant_id", assistant_id)
    restrict(conditions, filters, "metadata")
    return conditions


async def _require(
    executor: Executor, assistant_id: UUID, filters: Auth.types.FilterType | None, detail: str | None = None
) -> None:
    conditions = _of(assistant_id, filters)
    if not await executor.fetch_one(
        f"SELECT 1 AS found FROM assistant WHERE {conditions}",  # noqa: S608
        conditions.parameters,
    ):
        raise HTTPException(status_code=404, detail=detail or f"Assistant {assistant_id} not found")


async def _delete_threads(conn: Handle, assistant_id: UUID, ctx: Context | None) -> None:
    from langgraph_runtime_holdfast.ops.threads import Threads

    rows = await conn.fetch(
        "SELECT thread_id FROM thread_metadata WHERE metadata @> %(wanted)s::jsonb",
        {"wanted": json_text({"assistant_id": str(assistant_id)})},
    )
    for row in rows:
        try:
            async for _ in await Threads.delete(conn, row["thread_id"], ctx=ctx):
                pass
        except HTTPException as refused:
            await logger.awarning(
                "A thread stays when its assistant is deleted: the caller may not delete it",
                thread_id=str(row["thread_id"]),
                assistant_id=str(assistant_id),
                reason=refused.detail,
            )


def _mirror(fields: dict[str, Any]) -> None:
    """Keep `config.configurable` and `context`, two names of one thing, the same."""
    config, context = fields["config"], fields["context"]
    if config.get("configurable") and context:
        raise HTTPException(
            status_code=400,
            detail="Cannot specify both configurable and context; give context alone.",
        )
    if config.get("configurable"):
        fields["context"] = config["configurable"]
    elif context:
        fields["config"] = {**config, "configurable": context}


def _parameters(
    assistant_id: UUID, graph_id: str, name: str, description: str | None, stored: dict[str, Any]
) -> dict[str, Any]:
    return {
        "assistant_id": assistant_id,
        "graph_id": graph_id,
        "name": without_nul(name, "name"),
        "description": without_nul(description, "description"),
        **{field: bounded_text(f"The assistant's {field}", stored[field] or {}) for field in _SECRET_FIELDS},
    }


async def _each(rows: Any) -> AsyncIterator[Any]:
    for row in rows:
        yield cast("Any", row)
