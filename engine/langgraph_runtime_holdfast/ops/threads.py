"""Threads: conversations that runs work on, one at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal
from uuid import UUID, uuid4

from langgraph_sdk import Auth
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.checkpoint_rows import copy_checkpoints
from langgraph_runtime_holdfast.database import Handle, Row, connect
from langgraph_runtime_holdfast.ops.authenticated import Authenticated
from langgraph_runtime_holdfast.ops.filters import allows, restrict
from langgraph_runtime_holdfast.ops.places import remember_new_thread
from langgraph_runtime_holdfast.ops.statement import Conditions, as_uuid, bounded_text, order_by, page
from langgraph_runtime_holdfast.ops.thread_removal import delete_threads
from langgraph_runtime_holdfast.ops.thread_rows import (
    FIELDS,
    columns,
    each,
    find_thread,
    not_found,
)
from langgraph_runtime_holdfast.ops.thread_state import ThreadState
from langgraph_runtime_holdfast.ops.thread_status import end_run, set_thread_status
from langgraph_runtime_holdfast.ops.thread_stream import ThreadStream
from langgraph_runtime_holdfast.ops.thread_ttl import (
    MOVE_EXPIRY,
    default_time_to_live,
    keep_latest,
    sweep,
    time_to_live,
)
from langgraph_runtime_holdfast.retry import create_under_one_id

Context = Auth.types.BaseAuthContext
Rows = AsyncIterator[dict[str, Any]]

_SORTS: Final = {
    "created_at": "thread.created_at",
    "updated_at": "thread_order.updated_at",
    "state_updated_at": "thread_order.state_updated_at",
    "status": "thread_order.status",
    "thread_id": "thread.thread_id",
}
_INSERT: Final = f"""
INSERT INTO thread (thread_id, metadata, created_at, updated_at, state_updated_at,
                    ttl_minutes, ttl_strategy, expires_at)
VALUES (%(thread_id)s, %(metadata)s::jsonb, %(now)s, %(now)s, %(now)s,
        %(minutes)s, %(strategy)s, now() + %(minutes)s * interval '1 minute')
ON CONFLICT (thread_id) DO NOTHING
RETURNING {columns()}, thread_content_v2(metadata => metadata, config => config) AS version
"""  # noqa: S608 - constants
# The row and the checkpoints belong together, also while a run of the original ends.
_AT_ONE_MOMENT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
# The copy is what the original was when it had no run: a run is not copied.
_COPY: Final = f"""
INSERT INTO thread (thread_id, metadata, status, "values", interrupts, ttl_minutes, ttl_strategy, expires_at)
SELECT %(new_id)s, metadata, CASE WHEN status = 'interrupted' THEN status ELSE 'idle' END,
       "values", interrupts, ttl_minutes, ttl_strategy, now() + ttl_minutes * interval '1 minute'
FROM thread AS original WHERE thread_id = %(thread_id)s
ON CONFLICT (thread_id) DO NOTHING
RETURNING {columns()}
"""  # noqa: S608


class Threads(Authenticated):
    """What the API calls for threads."""

    resource: ClassVar[Literal["threads"]] = "threads"

    State = ThreadState
    Stream = ThreadStream

    @staticmethod
    async def search(
        conn: Handle,
        *,
        ids: Sequence[str | UUID] | None = None,
        metadata: dict[str, Any] | None,
        values: dict[str, Any] | None,
        status: str | None,
        limit: int,
        offset: int,
        sort_by: str | None = None,
        sort_order: str | None = None,
        select: Sequence[str] | None = None,
        extract: Mapping[str, str] | None = None,
        ctx: Context | None = None,
    ) -> tuple[Rows, int | None]:
        """Find threads, a page at a time, by default those first that changed last.

        Returns:
            The page, and the offset of the next one, or None after the last.

        Raises:
            HTTPException: 400 or 422, a value that no search can have.
        """
        conditions = await _wanted(metadata, values, status, limit, offset, ctx)
        if ids:
            listed = conditions.value([_listed_id(each_id) for each_id in ids])
            conditions.add(f"thread.thread_id = ANY({listed})")
        # What is extracted is taken out of columns that may not be selected.
        roots = {path.split(".")[0].split("[")[0] for path in (extract or {}).values()}
        names = [name for name in FIELDS if not select or name in select or name in roots]
        order = order_by(sort_by, sort_order, _SORTS, "updated_at")
        rows = await conn.fetch(
            f"SELECT {columns(names)} FROM {_searched(conditions, order)} WHERE {conditions} "  # noqa: S608
            f"ORDER BY {order} {page(conditions, limit, offset)}",
            conditions.parameters,
        )
        found = [_shown(row, select, extract) for row in rows[:limit]]
        return each(*found), offset + limit if len(rows) > limit else None

    @staticmethod
    async def count(
        conn: Handle,
        *,
        metadata: dict[str, Any] | None = None,
        values: dict[str, Any] | None = None,
        status: str | None = None,
        ctx: Context | None = None,
    ) -> int:
        """Count the threads that a search would find."""
        conditions = await _wanted(metadata, values, status, 0, 0, ctx)
        row = await conn.fetch_one(
            f"SELECT count(*) AS found FROM {_searched(conditions)} WHERE {conditions}",  # noqa: S608
            conditions.parameters,
        )
        return int(row["found"]) if row else 0

    @staticmethod
    async def get(
        conn: Handle,
        thread_id: UUID | str,
        ctx: Context | None = None,
        include_ttl: bool = False,
        read_mask_paths: Sequence[str] | None = None,
    ) -> Rows:
        """Get a thread.

        Args:
            conn: The database.
            thread_id: Which one.
            ctx: Who asks.
            include_ttl: Add `ttl`, if it has one.
            read_mask_paths: The only fields that are needed, beside the id.

        Raises:
            HTTPException: 404, there is no such thread, or not for this caller.
        """
        thread_id = as_uuid(thread_id, "thread ID")
        filters = await Threads.handle_event(ctx, "read", Auth.types.ThreadsRead(thread_id=thread_id))
        fields = FIELDS if read_mask_paths is None else read_mask_paths
        row = await find_thread(conn, thread_id, filters, fields, with_ttl=include_ttl)
        if row is None:
            raise not_found(thread_id)
        return each(row)

    @staticmethod
    async def put(
        conn: Handle,
        thread_id: UUID | str,
        *,
        metadata: dict[str, Any] | None,
        if_exists: str,
        ttl: Mapping[str, Any] | None = None,
        ctx: Context | None = None,
    ) -> Rows:
        """Create a thread, or get the one that has the id already (`if_exists="do_nothing"`).

        Raises:
            HTTPException: 409, the id is taken; 413, the metadata is larger than HOLDFAST_LARGEST_MB;
                422, the time to live is wrong.
        """
        thread_id = as_uuid(thread_id, "thread ID")
        metadata = metadata if metadata is not None else {}
        filters = await Threads.handle_event(
            ctx,
            "create",
            Auth.types.ThreadsCreate(thread_id=thread_id, metadata=metadata, if_exists=if_exists),  # type: ignore[typeddict-item]
        )
        expires = time_to_live(ttl) if ttl else default_time_to_live()
        new = {
            "thread_id": thread_id,
            "metadata": bounded_text("The thread's metadata", metadata),
            # Not the database's clock: a repetition knows by it what an earlier attempt has created.
            "now": datetime.now(UTC),
            "minutes": expires.minutes,
            "strategy": expires.strategy,
        }

        async def create() -> Row:
            while True:
                if (row := await conn.fetch_one(_INSERT, new, often=True)) is not None:
                    remember_new_thread(row, row.pop("version"))
                    return row
                row = await find_thread(conn, thread_id, None)
                if row is None:  # deleted in between
                    continue
                is_new = row["created_at"] == new["now"]
                if not is_new and (if_exists != "do_nothing" or not allows(row["metadata"], filters)):
                    raise HTTPException(status_code=409, detail=f"Thread with ID {thread_id} already exists")
                return row

        return each(await create_under_one_id(create))

    @staticmethod
    async def patch(
        conn: Handle,
        thread_id: UUID | str,
        *,
        metadata: dict[str, Any],
        ttl: Mapping[str, Any] | None = None,
        ctx: Context | None = None,
        read_mask_paths: Sequence[str] | None = None,
    ) -> Rows:
        """Merge into a thread's metadata, and change its time to live; nothing if there is no such thread.

        Raises:
            HTTPException: 413, the metadata is larger than HOLDFAST_LARGEST_MB; 422, the time to live is
                wrong.
        """
        thread_id = as_uuid(thread_id, "thread ID")
        filters = await Threads.handle_event(
            ctx, "update", Auth.types.ThreadsUpdate(thread_id=thread_id, metadata=metadata)
        )
        conditions = Conditions()
        conditions.equal("thread_id", thread_id)
        restrict(conditions, filters, "metadata")
        added = conditions.value(bounded_text("The thread's metadata", metadata))
        changes = [f"metadata = metadata || {added}::jsonb"]
        if ttl:
            expires = time_to_live(ttl)
            minutes = conditions.value(expires.minutes)
            changes += [
                f"ttl_minutes = {minutes}",
                f"ttl_strategy = {conditions.value(expires.strategy)}",
                f"expires_at = now() + {minutes} * interval '1 minute'",
            ]
        else:
            changes.append(MOVE_EXPIRY)
        names = FIELDS if read_mask_paths is None else {"thread_id", *read_mask_paths}
        rows = await conn.fetch(
            f"UPDATE thread SET updated_at = now(), {', '.join(changes)} "  # noqa: S608 - fixed names
            f"WHERE {conditions} RETURNING {columns(names)}",
            conditions.parameters,
        )
        return each(*rows)

    @staticmethod
    async def copy(conn: Handle, thread_id: UUID | str, ctx: Context | None = None) -> Rows:
        """Copy a thread with its checkpoints, without its runs; nothing if there is no such thread."""
        thread_id, new_id = as_uuid(thread_id, "thread ID"), uuid4()
        filters = await Threads.handle_event(ctx, "read", Auth.types.ThreadsRead(thread_id=thread_id))
        # The copy has the original's metadata, so what a handler would return for a new one is not needed.
        await Threads.handle_event(ctx, "create", Auth.types.ThreadsCreate(thread_id=new_id))

        async def create() -> Row | None:
            async with conn.transaction() as tx:
                await tx.execute(_AT_ONE_MOMENT)
                if await find_thread(tx, thread_id, filters, ()) is None:
                    return None
                row = await tx.fetch_one(_COPY, {"thread_id": thread_id, "new_id": new_id})
                if row is None:  # made by an attempt whose answer was lost
                    return await find_thread(tx, new_id, None)
                await copy_checkpoints(tx, thread_id, new_id)
                return row

        row = await create_under_one_id(create)
        return each(row) if row is not None else each()

    @staticmethod
    async def delete(conn: Handle, thread_id: UUID | str, ctx: Context | None = None) -> AsyncIterator[UUID]:
        """Delete a thread with its runs, crons and checkpoints; a run that works on it is stopped.

        Raises:
            HTTPException: 404, there is no such thread, or not for this caller.
        """
        thread_id = as_uuid(thread_id, "thread ID")
        filters = await Threads.handle_event(ctx, "delete", Auth.types.ThreadsDelete(thread_id=thread_id))
        deleted = await delete_threads(conn, [thread_id], filters)
        if not deleted:
            raise not_found(thread_id)
        return each(*deleted)

    @staticmethod
    async def prune(
        thread_ids: Sequence[str | UUID],
        strategy: str = "delete",
        batch_size: int = 100,
        ctx: Context | None = None,
    ) -> int:
        """Delete threads, or all but the latest of their checkpoints.

        Args:
            thread_ids: Which threads; those that do not exist are passed over.
            strategy: "delete" or "keep_latest".
            batch_size: How many are deleted in one transaction.
            ctx: Who asks.

        Returns:
            How many were pruned. A thread on which a run works keeps its checkpoints.

        Raises:
            HTTPException: 404, handlers restrict the caller, and a thread is not theirs; nothing was done.
        """
        ids = list(dict.fromkeys(as_uuid(thread_id, "thread ID") for thread_id in thread_ids))
        if not ids:
            return 0
        filters = await Threads.handle_event(ctx, "delete", {"thread_ids": thread_ids})
        async with connect() as conn:
            there = await _existing(conn, ids, filters)
            if filters and len(there) < len(ids):
                raise HTTPException(status_code=404, detail="At least one thread not found or not authorized")
            pruned = 0
            for start in range(0, len(there), batch_size):
                batch = there[start : start + batch_size]
                if strategy == "delete":
                    pruned += len(await delete_threads(conn, batch, filters))
                else:
                    for thread_id in batch:
                        pruned += await keep_latest(conn, thread_id)
        return pruned

    @staticmethod
    async def sweep_ttl(conn: Handle, *, limit: int | None = None, batch_size: int = 100) -> tuple[int, int]:
        """Delete or prune what has expired; see `thread_ttl.sweep`."""
        return await sweep(conn, limit=limit, batch_size=batch_size)

    @staticmethod
    async def set_status(
        conn: Handle,
        thread_id: UUID | str,
        checkpoint: Mapping[str, Any] | None,
        exception: BaseException | None,
    ) -> None:
        """Write a new state to the thread's row; see `set_thread_status`."""
        await set_thread_status(conn, as_uuid(thread_id, "thread ID"), checkpoint, exception)

    @staticmethod
    async def set_joint_status(
        conn: Handle,
        thread_id: UUID | str,
        run_id: UUID | str,
        run_status: str,
        graph_id: str,
        checkpoint: Mapping[str, Any] | None = None,
        exception: BaseException | None = None,
    ) -> None:
        """Write a run's end and its thread's state together; see `end_run`."""
        await end_run(
            conn,
            as_uuid(thread_id, "thread ID"),
            as_uuid(run_id, "run ID"),
            run_status,
            graph_id,
            checkpoint,
            exception,
        )


async def _wanted(
    metadata: dict[str, Any] | None,
    values: dict[str, Any] | None,
    status: str | None,
    limit: int,
    offset: int,
    ctx: Context | None,
) -> Conditions:
    # The handler may add to these, so they are read after it.
    metadata = metadata if metadata is not None else {}
    values = values if values is not None else {}
    filters = await Threads.handle_event(
        ctx,
        "search",
        Auth.types.ThreadsSearch(
            metadata=metadata,
            values=values,
            status=status,  # type: ignore[typeddict-item]
            limit=limit,
            offset=offset,
        ),
    )
    conditions = Conditions()
    conditions.contain("thread_metadata.metadata", metadata)
    conditions.contain('thread."values"', values)
    conditions.equal("thread_order.status", status)
    restrict(conditions, filters, "thread_metadata.metadata")
    return conditions


def _searched(conditions: Conditions, order: str = "") -> str:
    """The tables of a search: what runs change of a thread is indexed apart, and not in its own row."""
    text = f"{conditions} {order}"
    used = [name for name in ("thread_order", "thread_metadata") if f"{name}." in text]
    return " ".join(["thread", *(f"JOIN {name} ON {name}.thread_id = thread.thread_id" for name in used)])


async def _existing(conn: Handle, ids: list[UUID], filters: Mapping[str, Any] | None) -> list[UUID]:
    conditions = Conditions()
    conditions.add(f"thread_id = ANY({conditions.value(ids)})")
    restrict(conditions, filters, "metadata")
    rows = await conn.fetch(
        f"SELECT thread_id FROM thread WHERE {conditions} ORDER BY thread_id",  # noqa: S608
        conditions.parameters,
    )
    return [row["thread_id"] for row in rows]


def _listed_id(value: str | UUID) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        raise HTTPException(status_code=400, detail=f"Invalid thread ID {value}") from None


def _shown(row: Row, select: Sequence[str] | None, extract: Mapping[str, str] | None) -> Row:
    shown = {name: value for name, value in row.items() if not select or name in select}
    if extract:
        from langgraph_api.utils.extract import extract_path_value

        shown["extracted"] = {alias: extract_path_value(row, path) for alias, path in extract.items()}
    return shown
