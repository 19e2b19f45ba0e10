"""Crons: runs that start by schedule, exactly once for each date over any number of servers.

A scheduler claims one due cron at a time, which keeps the others from looking at it for a minute. The claim
only saves work. What makes a date fire once is `advance`: it moves the cron to its next date in the
transaction that inserts the run, and of two that try, one finds the date moved already and inserts nothing.
Dates missed while no server ran, or in a pause, fire once, together, as on the stock server; the log says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Literal, NamedTuple
from uuid import UUID

import structlog
from langgraph_sdk import Auth
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast import pause
from langgraph_runtime_holdfast.database import Executor, Handle, Row
from langgraph_runtime_holdfast.limits import check_size
from langgraph_runtime_holdfast.ops.assistants import Assistants
from langgraph_runtime_holdfast.ops.authenticated import Authenticated
from langgraph_runtime_holdfast.ops.cron_schedule import as_moment, next_date
from langgraph_runtime_holdfast.ops.encryption import decrypted
from langgraph_runtime_holdfast.ops.filters import allows, restrict
from langgraph_runtime_holdfast.ops.statement import (
    Conditions,
    as_uuid,
    json_text,
    order_by,
    page,
    selected,
)
from langgraph_runtime_holdfast.retry import TRANSIENT, create_under_one_id

logger = structlog.stdlib.get_logger(__name__)

Context = Auth.types.BaseAuthContext
Rows = AsyncIterator[dict[str, Any]]


class Firing(NamedTuple):
    """A cron that a scheduler is about to start a run of."""

    cron_id: UUID
    due: datetime
    following: datetime
    is_put_off: bool = False
    """The database did not take the run; the date stays due."""


FIRING: ContextVar[Firing | None] = ContextVar("FIRING", default=None)
"""Set while the scheduler handles a due cron, so that `Runs.put` can advance it together with the run."""

_NO_OUTAGE: Final = timedelta(minutes=1)
"""A look that comes so late is only a slow one."""
_COLUMNS: Final = (
    "cron_id, assistant_id, thread_id, user_id, schedule, timezone, end_time, payload, metadata, "
    "on_run_completed, enabled, next_run_date, created_at, updated_at"
)
_SORTS: Final = {
    name: f"cron.{name}"
    for name in (
        "created_at",
        "updated_at",
        "next_run_date",
        "end_time",
        "assistant_id",
        "thread_id",
        "cron_id",
    )
}
_INSERT: Final = f"""
INSERT INTO cron (cron_id, assistant_id, thread_id, user_id, schedule, timezone, end_time, payload, metadata,
                  on_run_completed, enabled, next_run_date)
VALUES (%(cron_id)s, %(assistant_id)s, %(thread_id)s, %(user_id)s, %(schedule)s, %(timezone)s, %(end_time)s,
        %(payload)s::json, %(metadata)s::jsonb, %(on_run_completed)s, %(enabled)s, %(next_run_date)s)
ON CONFLICT (cron_id) DO NOTHING
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants
_UPDATE: Final = f"""
UPDATE cron SET schedule = %(schedule)s, timezone = %(timezone)s, end_time = %(end_time)s,
    enabled = %(enabled)s, on_run_completed = %(on_run_completed)s, payload = %(payload)s::json,
    metadata = %(metadata)s::jsonb, next_run_date = %(next_run_date)s, claimed_until = NULL,
    updated_at = now()
WHERE cron_id = %(cron_id)s
RETURNING {_COLUMNS}
"""  # noqa: S608
_CLAIM: Final = f"""
UPDATE cron SET claimed_until = now() + interval '1 minute'
WHERE cron_id = (
    SELECT cron_id FROM cron
    WHERE enabled AND next_run_date <= now() AND (end_time IS NULL OR end_time >= now())
      AND (claimed_until IS NULL OR claimed_until < now()) AND NOT {pause.IS_ON}
    ORDER BY next_run_date LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING {_COLUMNS}, now() AS now
"""  # noqa: S608
_ADVANCE: Final = """
UPDATE cron SET next_run_date = %(following)s, claimed_until = NULL
WHERE cron_id = %(cron_id)s AND enabled AND next_run_date = %(due)s
"""
_SET_NEXT: Final = """
UPDATE cron SET next_run_date = %(date)s, claimed_until = NULL
WHERE cron_id = %(cron_id)s AND (%(due)s::timestamptz IS NULL OR next_run_date = %(due)s)
"""


def put_off() -> None:
    """Leave the cron that is being fired as it is: whether its run is there, the next look finds out."""
    if (firing := FIRING.get()) is not None:
        FIRING.set(firing._replace(is_put_off=True))


async def advance(tx: Executor, firing: Firing) -> bool:
    """Move a cron to its next date, in the transaction that inserts the run of the date that is due.

    Returns:
        Whether this call moved it. If not, the date has been fired already, or the cron was deleted, disabled
        or changed in between: no run may be inserted.
    """
    return await tx.execute(_ADVANCE, firing._asdict()) == 1


async def _claimed(conn: Handle) -> Row | None:
    """The next cron that is due, if any; the server would log a stack for each look that fails."""
    try:
        return await conn.fetch_one(_CLAIM)
    except TRANSIENT as error:
        await logger.awarning("Crons cannot be looked for now; trying on", error=str(error))
        return None


class Crons(Authenticated):
    """What the API and its scheduler call for crons."""

    resource: ClassVar[Literal["crons"]] = "crons"

    @staticmethod
    async def put(
        conn: Handle,
        *,
        payload: dict[str, Any],
        schedule: str,
        cron_id: UUID | None = None,
        thread_id: UUID | str | None = None,
        on_run_completed: Literal["delete", "keep"] | None = None,
        end_time: datetime | str | None = None,
        metadata: dict[str, Any] | None = None,
        enabled: bool,
        timezone: str | None = None,
        ctx: Context | None = None,
    ) -> Rows:
        """Create a cron; with a thread its runs use that one, without each run has its own.

        Raises:
            HTTPException: 404, the assistant or the thread is not there for the caller; 413, no run could
                have so large an input; 422, the schedule, the time zone, the end time or an id is wrong.
        """
        from langgraph_api.graph import SYSTEM_ASSISTANT_IDS, get_assistant_id
        from langgraph_api.utils import get_auth_ctx, uuid7

        ctx = ctx or get_auth_ctx()
        user_id = ctx.user.identity if ctx is not None else None
        identity: UUID = cron_id or uuid7()
        thread_id = as_uuid(thread_id, "thread ID") if thread_id else None
        metadata = metadata or {}
        payload = _with_cron_id(payload, identity)
        request = Auth.types.CronsCreate(
            payload=payload,
            schedule=schedule,
            cron_id=identity,
            thread_id=thread_id,
            user_id=user_id,
            end_time=as_moment(end_time),
        )
        request["metadata"] = metadata  # type: ignore[typeddict-unknown-key]
        filters = await Crons.handle_event(ctx, "create", request)
        first_date = await asyncio.to_thread(next_date, schedule, timezone)

        assistant_id = as_uuid(get_assistant_id(payload["assistant_id"]), "assistant ID")
        payload["assistant_id"] = str(assistant_id)
        assistant_filters = None
        if str(assistant_id) not in SYSTEM_ASSISTANT_IDS:
            # Without the cron's metadata: what the caller sends must not decide what he may use.
            assistant_filters = await Assistants.handle_event(
                ctx, "read", Auth.types.AssistantsRead(assistant_id=assistant_id)
            )
        await _require(
            conn, "assistant", assistant_id, assistant_filters, f"Assistant '{assistant_id}' not found"
        )
        if thread_id is not None:
            await _require_thread(conn, thread_id, metadata, ctx)
        parameters = {
            "cron_id": identity,
            "assistant_id": assistant_id,
            "thread_id": thread_id,
            "user_id": user_id,
            "schedule": schedule,
            "timezone": timezone,
            "end_time": as_moment(end_time),
            "payload": _payload_text(payload),
            "metadata": json_text(metadata),
            "on_run_completed": None if thread_id else on_run_completed or "delete",
            "enabled": enabled,
            "next_run_date": first_date,
        }

        async def create() -> Row | None:
            return await conn.fetch_one(_INSERT, parameters) or await _one(conn, identity, filters)

        row = await create_under_one_id(create)
        return _each((row,) if row else ())

    @staticmethod
    async def update(
        conn: Handle,
        *,
        cron_id: UUID | str,
        schedule: str | None = None,
        end_time: datetime | str | None = None,
        clear_end_time: bool = False,
        enabled: bool | None = None,
        on_run_completed: Literal["delete", "keep"] | None = None,
        payload: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        timezone: str | None = None,
        ctx: Context | None = None,
    ) -> Rows:
        """Change a cron; metadata and payload are merged at their top level, the rest replaced.

        Raises:
            HTTPException: 400, nothing to change; 404, there is no such cron; 413, no run could have so large
                an input; 422, a value is wrong.
        """
        cron_id = as_uuid(cron_id, "cron ID")
        end_time = as_moment(end_time)
        fields: dict[str, Any] = {
            "schedule": schedule,
            "end_time": end_time,
            "enabled": enabled,
            "on_run_completed": on_run_completed,
        }
        request = {"cron_id": cron_id, **fields, "payload": payload}
        if metadata is not None:
            request["metadata"] = metadata
        filters = await Crons.handle_event(ctx, "update", request)
        fields["timezone"] = timezone
        changes = {name: value for name, value in fields.items() if value is not None}
        if clear_end_time:
            changes["end_time"] = None
        if not changes and payload is None and metadata is None:
            raise HTTPException(status_code=400, detail="No fields to update")
        async with conn.transaction() as tx:
            row = await _one(tx, cron_id, filters, lock=True)
            if row is None:
                raise HTTPException(status_code=404, detail=f"Cron '{cron_id}' not found")
            row.update(changes)
            if schedule is not None or timezone is not None:
                row["next_run_date"] = await asyncio.to_thread(next_date, row["schedule"], row["timezone"])
            if payload is None:
                # One that is too large by now can still be disabled.
                row["payload"] = json_text(row["payload"])
            else:
                merged = {**row["payload"], **payload, "assistant_id": row["payload"]["assistant_id"]}
                row["payload"] = _payload_text(_with_cron_id(merged, cron_id))
            row["metadata"] = json_text({**row["metadata"], **(metadata or {})})
            updated = await tx.fetch(_UPDATE, row)
        return _each(updated)

    @staticmethod
    async def get(conn: Handle, cron_id: UUID | str, ctx: Context | None = None) -> Rows:
        """Get one cron; nothing if there is none, or none that the caller may see."""
        cron_id = as_uuid(cron_id, "cron ID")
        filters = await Crons.handle_event(ctx, "read", Auth.types.CronsRead(cron_id=cron_id))
        row = await _one(conn, cron_id, filters)
        return _each((row,) if row else ())

    @staticmethod
    async def delete(conn: Handle, cron_id: UUID | str, ctx: Context | None = None) -> AsyncIterator[UUID]:
        """Delete a cron and yield its id; nothing if there was none, or none that the caller may delete."""
        cron_id = as_uuid(cron_id, "cron ID")
        filters = await Crons.handle_event(ctx, "delete", Auth.types.CronsDelete(cron_id=cron_id))
        conditions = Conditions()
        conditions.equal("cron_id", cron_id)
        restrict(conditions, filters, "metadata")
        deleted = await conn.execute(f"DELETE FROM cron WHERE {conditions}", conditions.parameters)  # noqa: S608
        return _each((cron_id,) if deleted else ())

    @staticmethod
    async def next(conn: Handle, ctx: Context | None = None) -> Rows:
        """Claim the crons that are due, one after the other, and set `FIRING` for each.

        Yields:
            The cron, with "now", the moment that its next date is computed from.
        """
        from langgraph_api import config
        from langgraph_api.utils import next_cron_date

        most = config.CRON_SCHEDULER_BATCH_SIZE
        claimed = 0
        try:
            while (most <= 0 or claimed < most) and (row := await _claimed(conn)) is not None:
                claimed += 1
                following = await asyncio.to_thread(
                    next_cron_date, row["schedule"], row["now"], row["timezone"]
                )
                FIRING.set(Firing(row["cron_id"], row["next_run_date"], following))
                await _tell_missed(row)
                yield row
        finally:
            FIRING.set(None)

    @staticmethod
    async def set_next_run_date(
        conn: Handle, cron_id: UUID | str, next_run_date: datetime, ctx: Context | None = None
    ) -> None:
        """Move a cron on whose run was refused; one whose run was inserted has moved already."""
        firing = FIRING.get()
        cron_id = as_uuid(cron_id, "cron ID")
        if firing is not None and firing.cron_id == cron_id and firing.is_put_off:
            return
        due = firing.due if firing is not None and firing.cron_id == cron_id else None
        await conn.execute(_SET_NEXT, {"cron_id": cron_id, "date": next_run_date, "due": due})

    @staticmethod
    async def search(
        conn: Handle,
        *,
        assistant_id: UUID | str | None,
        thread_id: UUID | str | None,
        enabled: bool | None,
        limit: int,
        offset: int,
        select: Sequence[str] | None = None,
        ctx: Context | None = None,
        sort_by: str | None = None,
        sort_order: Literal["asc", "desc"] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> tuple[Rows, int | None]:
        """Find crons, a page at a time, by default the newest first.

        Returns:
            The page, and the offset of the next one, or None after the last.

        Raises:
            HTTPException: 422, a value that no search can have.
        """
        if sort_by and sort_by.lower() not in _SORTS:
            raise HTTPException(
                status_code=422, detail=f"Invalid sort_by: must be one of {', '.join(sorted(_SORTS))}"
            )
        source = await _wanted(assistant_id, thread_id, metadata, ctx, limit=limit, offset=offset)
        source.equal("cron.enabled", enabled)
        columns = ", ".join(f"cron.{name}" for name in _COLUMNS.split(", "))
        order = order_by(sort_by, sort_order, _SORTS, "created_at")
        rows = await conn.fetch(
            f"SELECT {columns} FROM cron LEFT JOIN thread USING (thread_id) WHERE {source} "  # noqa: S608
            f"ORDER BY {order} {page(source, limit, offset)}",
            source.parameters,
        )
        following = offset + limit if len(rows) > limit else None
        return _each(selected(row, select) for row in rows[:limit]), following

    @staticmethod
    async def count(
        conn: Handle,
        *,
        assistant_id: UUID | str | None = None,
        thread_id: UUID | str | None = None,
        ctx: Context | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> int:
        """Count the crons that a search would find."""
        source = await _wanted(assistant_id, thread_id, metadata, ctx, limit=0, offset=0)
        row = await conn.fetch_one(
            f"SELECT count(*) AS found FROM cron LEFT JOIN thread USING (thread_id) WHERE {source}",  # noqa: S608
            source.parameters,
        )
        return int(row["found"]) if row else 0


async def _tell_missed(row: Row) -> None:
    """Say it where one run stands for several dates: whoever counts on each would not know."""
    from langgraph_api.utils import next_cron_date

    due, late = row["next_run_date"], row["now"] - row["next_run_date"]
    if late < _NO_OUTAGE:
        return
    second = await asyncio.to_thread(next_cron_date, row["schedule"], due, row["timezone"])
    if second <= row["now"]:
        await logger.awarning(
            "A cron has missed dates and fires once for all of them",
            cron_id=str(row["cron_id"]),
            first_missed=due.isoformat(),
            late_seconds=round(late.total_seconds()),
        )


async def _wanted(
    assistant_id: UUID | str | None,
    thread_id: UUID | str | None,
    metadata: dict[str, Any] | None,
    ctx: Context | None,
    *,
    limit: int,
    offset: int,
) -> Conditions:
    from langgraph_runtime_holdfast.ops.threads import Threads

    request = {
        "assistant_id": assistant_id,
        "thread_id": thread_id,
        "limit": limit,
        "offset": offset,
        "metadata": metadata or {},
    }
    filters = await Crons.handle_event(ctx, "search", request)
    if thread_id:
        thread_id = as_uuid(thread_id, "thread ID")
        thread_filters = await Threads.handle_event(ctx, "read", Auth.types.ThreadsRead(thread_id=thread_id))
    else:
        thread_filters = await Threads.handle_event(ctx, "search", Auth.types.ThreadsSearch())
    conditions = Conditions()
    conditions.equal("cron.assistant_id", as_uuid(assistant_id, "assistant ID") if assistant_id else None)
    conditions.equal("cron.thread_id", thread_id or None)
    conditions.contain("cron.metadata", metadata)
    restrict(conditions, filters, "cron.metadata")
    if thread_filters:
        # A cron of a thread is seen by who sees the thread.
        on_thread = Conditions()
        on_thread.parameters = conditions.parameters
        restrict(on_thread, thread_filters, "thread.metadata")
        conditions.add(f"(cron.thread_id IS NULL OR {on_thread})")
    return conditions


async def _one(
    executor: Executor, cron_id: UUID, filters: Auth.types.FilterType | None, *, lock: bool = False
) -> Row | None:
    conditions = Conditions()
    conditions.equal("cron_id", cron_id)
    restrict(conditions, filters, "metadata")
    statement = f"SELECT {_COLUMNS} FROM cron WHERE {conditions}{' FOR UPDATE' if lock else ''}"  # noqa: S608
    return await executor.fetch_one(statement, conditions.parameters)


async def _require_thread(
    conn: Handle, thread_id: UUID, metadata: dict[str, Any], ctx: Context | None
) -> None:
    from langgraph_runtime_holdfast.ops.threads import Threads

    request = Auth.types.ThreadsRead(thread_id=thread_id)
    request["metadata"] = metadata  # type: ignore[typeddict-unknown-key]
    filters = await Threads.handle_event(ctx, "read", request)
    await _require(conn, "thread", thread_id, filters, f"Thread with ID '{thread_id}' not found")


async def _require(
    conn: Handle,
    resource: Literal["assistant", "thread"],
    resource_id: UUID,
    filters: Auth.types.FilterType | None,
    detail: str,
) -> None:
    row = await conn.fetch_one(
        f"SELECT metadata FROM {resource} WHERE {resource}_id = %(id)s",  # noqa: S608
        {"id": resource_id},
    )
    found = row and await decrypted(row, resource, ["metadata"])
    if found is None or not allows(found["metadata"], filters):
        raise HTTPException(status_code=404, detail=detail)


def _with_cron_id(payload: dict[str, Any], cron_id: UUID) -> dict[str, Any]:
    config = payload.get("config") or {}
    configurable = {**(config.get("configurable") or {}), "cron_id": str(cron_id)}
    return {**payload, "config": {**config, "configurable": configurable}}


def _payload_text(payload: dict[str, Any]) -> str:
    """What a run of it could not have is refused now: later nobody would be told, date after date."""
    text = json_text(payload)
    check_size("The input and configuration of the cron's runs", len(text))
    return text


async def _each(rows: Iterable[Any]) -> AsyncIterator[Any]:
    for row in rows:
        yield row
