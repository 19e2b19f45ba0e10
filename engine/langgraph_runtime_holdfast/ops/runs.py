"""Runs: what the API, the worker and the queue call. Each subject has a module; this is their front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Final, Literal
from uuid import UUID

import structlog
from langgraph_sdk import Auth
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.database import Handle, Row
from langgraph_runtime_holdfast.ops import run_queue
from langgraph_runtime_holdfast.ops.assistants import Assistants
from langgraph_runtime_holdfast.ops.authenticated import Authenticated
from langgraph_runtime_holdfast.ops.encryption import decrypted
from langgraph_runtime_holdfast.ops.filters import allows, restrict
from langgraph_runtime_holdfast.ops.lease import Lease, current_lease, heartbeat
from langgraph_runtime_holdfast.ops.places import likely_place
from langgraph_runtime_holdfast.ops.run_cancel import cancel_runs, delete_run, find_runs
from langgraph_runtime_holdfast.ops.run_enter import enter
from langgraph_runtime_holdfast.ops.run_put import NewRun, put_run
from langgraph_runtime_holdfast.ops.run_queue import RUN_FIELDS
from langgraph_runtime_holdfast.ops.run_stream import RunStream
from langgraph_runtime_holdfast.ops.signals import begin_look, wait_for_wake, wake_all
from langgraph_runtime_holdfast.ops.statement import Conditions, as_uuid, page
from langgraph_runtime_holdfast.settings import settings

logger = structlog.stdlib.get_logger(__name__)

Context = Auth.types.BaseAuthContext
Rows = AsyncIterator[dict[str, Any]]

_STATUSES: Final = ("pending", "running", "success", "error", "timeout", "interrupted")
_LONGEST_DELAY_SECONDS: Final = 100 * 366 * 24 * 3600


class Runs(Authenticated):
    """What the API, the worker and the queue call for runs."""

    resource: ClassVar[Literal["threads"]] = "threads"
    Stream = RunStream

    @staticmethod
    async def stats(conn: Handle) -> dict[str, Any]:
        """How many runs wait and run, and how long they have waited, in seconds."""
        return await run_queue.stats(conn)

    @staticmethod
    async def pool_stats() -> dict[str, Any]:
        """Of another process that the API would ask; there is none."""
        return {}

    @staticmethod
    async def next(wait: bool, limit: int = 1) -> AsyncIterator[tuple[dict[str, Any], int]]:
        """Claim due runs, oldest first; each is this process's until its worker ends or the process dies.

        Args:
            wait: First wait until somebody says that there is something, at most one poll.
            limit: How many at most.

        Yields:
            The run and the number of this attempt, 1 for the first.
        """
        if wait:
            await wait_for_wake(settings().poll_seconds)
        begin_look()
        for run, lease, wish in await _claim(limit):
            heartbeat().hold(lease)
            if wish is not None:
                lease.cancel(*wish)
            yield run, lease.attempt

    @staticmethod
    def enter(
        run_id: UUID, thread_id: UUID | None, loop: asyncio.AbstractEventLoop, resumable: bool
    ) -> AbstractAsyncContextManager[Any]:
        """Surround a worker's attempt; see `run_enter.enter`."""
        return enter(run_id, thread_id, loop, resumable)

    @staticmethod
    async def sweep(*, may_take: bool = True) -> None:
        """Put the runs of dead workers back into the queue; see `run_queue.sweep`."""
        if swept := await run_queue.sweep(may_take=may_take):
            await logger.awarning(
                "Took over the runs of a dead worker", run_ids=[str(each) for each in swept]
            )
            wake_all()

    @staticmethod
    async def put(
        conn: Handle,
        assistant_id: UUID | str,
        kwargs: dict[str, Any],
        *,
        thread_id: UUID | str | None = None,
        user_id: str | None = None,
        run_id: UUID | str | None = None,
        status: str | None = "pending",
        metadata: dict[str, Any] | None,
        prevent_insert_if_inflight: bool,
        multitask_strategy: str = "reject",
        if_not_exists: str = "reject",
        after_seconds: int = 0,
        ctx: Context | None = None,
        langsmith_session_name: str | None = None,
    ) -> Rows:
        """Create a run; see `run_put.put_run` for what is yielded.

        Args:
            conn: The database.
            assistant_id: Who runs.
            kwargs: Input or command, configuration, context, and how to run and stream.
            thread_id: On which thread; None makes one.
            user_id: Who asked, for the run's configuration.
            run_id: Chosen by the caller; None chooses one.
            status: Always "pending".
            metadata: Of the run.
            prevent_insert_if_inflight: Create nothing if the thread has a run that waits or runs.
            multitask_strategy: Kept with the run.
            if_not_exists: "create" makes the thread if it is not there.
            after_seconds: Not before.
            ctx: Who asks.
            langsmith_session_name: Kept with the run.

        Raises:
            HTTPException: 422, bad input; or what an auth handler raised.
            DatabaseAwayError: Postgres did not answer.
        """
        from langgraph_api.utils import uuid7

        assistant_id = as_uuid(assistant_id, "assistant ID")
        wanted_thread = as_uuid(thread_id, "thread ID") if thread_id else None
        chosen = as_uuid(run_id, "run ID") if run_id else uuid7()
        if abs(after_seconds or 0) > _LONGEST_DELAY_SECONDS:
            raise HTTPException(status_code=422, detail="Invalid after_seconds: more than a hundred years")
        # A stateless run's thread is new: nobody else has its id.
        is_new_thread = bool(kwargs.get("temporary")) and if_not_exists == "create"
        place = await likely_place(conn, assistant_id, wanted_thread, is_new_thread=is_new_thread)
        if place is None:
            return _each()
        kwargs = await decrypted(kwargs, "run", ["input", "command", "config", "context"])
        metadata = (await decrypted({"metadata": metadata}, "run", ["metadata"]))["metadata"] or {}
        filters = await Runs.handle_event(
            ctx,
            "create_run",
            Auth.types.RunsCreate(
                thread_id=None if kwargs.get("temporary") else wanted_thread,
                assistant_id=assistant_id,
                run_id=chosen,
                status=status,  # type: ignore[typeddict-item]
                metadata=metadata,
                prevent_insert_if_inflight=prevent_insert_if_inflight,
                multitask_strategy=multitask_strategy,  # type: ignore[typeddict-item]
                if_not_exists=if_not_exists,  # type: ignore[typeddict-item]
                after_seconds=after_seconds,
                kwargs=kwargs,
            ),
        )
        if not await _may_use(place.assistant.row, ctx):
            return _each()
        rows = await put_run(
            conn,
            NewRun(
                run_id=chosen,
                thread_id=wanted_thread or uuid7(),
                may_create_thread=wanted_thread is None or if_not_exists == "create",
                place=place,
                kwargs=kwargs,
                metadata=metadata,
                user_id=user_id,
                status=status or "pending",
                multitask_strategy=multitask_strategy,
                reject_if_inflight=prevent_insert_if_inflight,
                after_seconds=after_seconds or 0,
                langsmith_session_name=langsmith_session_name,
                thread_filters=filters,
            ),
        )
        return _each(*rows)

    @staticmethod
    async def get(
        conn: Handle, run_id: UUID | str, *, thread_id: UUID | str, ctx: Context | None = None
    ) -> Rows:
        """Yield a run of a thread, if the caller may see it."""
        run_id, thread_id = as_uuid(run_id, "run ID"), as_uuid(thread_id, "thread ID")
        filters = await Runs.handle_event(ctx, "read", Auth.types.ThreadsRead(thread_id=thread_id))
        conditions = Conditions()
        conditions.equal("run.run_id", run_id)
        conditions.equal("run.thread_id", thread_id)
        restrict(conditions, filters, "thread.metadata")
        return _each(*await _fetch(conn, conditions))

    @staticmethod
    async def delete(
        conn: Handle, run_id: UUID | str, *, thread_id: UUID | str, ctx: Context | None = None
    ) -> AsyncIterator[UUID]:
        """Delete a run with its checkpoints, and yield its id; one that runs is stopped.

        Raises:
            HTTPException: 404, there is no such run.
        """
        run_id, thread_id = as_uuid(run_id, "run ID"), as_uuid(thread_id, "thread ID")
        filters = await Runs.handle_event(
            ctx, "delete", Auth.types.ThreadsDelete(run_id=run_id, thread_id=thread_id)
        )
        if filters and not await find_runs(conn, filters, run_ids=[run_id], thread_id=thread_id):
            return _each()
        if not await delete_run(conn, run_id, thread_id):
            raise HTTPException(status_code=404, detail="Run not found")
        await logger.ainfo("Run deleted", run_id=str(run_id), thread_id=str(thread_id))
        return _each(run_id)

    @staticmethod
    async def cancel(
        conn: Handle,
        run_ids: Sequence[UUID | str] | None = None,
        *,
        action: Literal["interrupt", "rollback"] = "interrupt",
        thread_id: UUID | str | None = None,
        status: str | None = None,
        assistant_id: UUID | str | None = None,
        ctx: Context | None = None,
        reason: str | None = None,
    ) -> None:
        """Cancel runs: some of a thread, all with a status ("pending", "running", "all"), or an assistant's.

        Raises:
            HTTPException: 422, it is not exactly one of these; 404, no run of the kind waits or runs (an
                assistant may have none).
        """
        _check_choice(run_ids, thread_id, status, assistant_id)
        ids = None if run_ids is None else [as_uuid(each, "run ID") for each in run_ids]
        thread = None if thread_id is None else as_uuid(thread_id, "thread ID")
        assistant = None if assistant_id is None else as_uuid(assistant_id, "assistant ID")
        filters = await Runs.handle_event(
            ctx,
            "update",
            Auth.types.ThreadsUpdate(
                thread_id=thread,  # type: ignore[typeddict-item]
                action=action,
                metadata={"run_ids": ids, "status": status},
            ),
        )
        statuses = None if ids is not None else [status] if status in _STATUSES else ["pending", "running"]
        runs = await find_runs(
            conn, filters, run_ids=ids, thread_id=thread, assistant_id=assistant, statuses=statuses
        )
        if not runs and assistant is None:
            raise HTTPException(status_code=404, detail="No runs found to cancel.")
        cancelled = await cancel_runs(conn, runs, action, reason) if runs else 0
        if not cancelled and assistant is None:
            raise HTTPException(
                status_code=404,
                detail="No matching runs to cancel: they have ended, or were deleted in the meantime.",
            )
        await logger.ainfo("Cancelled runs", runs=cancelled, action=action, status=status, reason=reason)

    @staticmethod
    async def search(
        conn: Handle,
        thread_id: UUID | str,
        *,
        limit: int = 10,
        offset: int = 0,
        status: str | None = None,
        select: Sequence[str] | None = None,
        ctx: Context | None = None,
    ) -> Rows:
        """Yield a thread's runs, the newest first."""
        thread_id = as_uuid(thread_id, "thread ID")
        metadata: dict[str, Any] = {}
        filters = await Runs.handle_event(
            ctx, "search", Auth.types.ThreadsSearch(thread_id=thread_id, metadata=metadata)
        )
        if status is not None and status not in _STATUSES:
            return _each()
        conditions = Conditions()
        conditions.equal("run.thread_id", thread_id)
        conditions.equal("run.status", status)
        conditions.contain("run.metadata", metadata)
        restrict(conditions, filters, "thread.metadata")
        rest = f"ORDER BY run.created_at DESC, run.run_id DESC {page(conditions, limit, offset)}"
        names = [name for name in RUN_FIELDS if name in select] if select else RUN_FIELDS
        return _each(*(await _fetch(conn, conditions, names, rest))[:limit])

    @staticmethod
    async def set_status(conn: Handle, run_id: UUID | str, status: str) -> None:
        """Say that a run is to be tried again ("pending"); `enter` puts it back, and knows why."""
        lease = current_lease()
        if lease is None or lease.run_id != as_uuid(run_id, "run ID") or status != "pending":
            raise ValueError(f"A run's end is set together with its thread's, not to {status} alone")


_claim_failed = False


async def _claim(limit: int) -> list[tuple[dict[str, Any], Lease, tuple[str, str | None] | None]]:
    global _claim_failed
    if _claim_failed:
        await run_queue.put_back_unheld()
    _claim_failed = True
    claimed = await run_queue.claim(limit)
    _claim_failed = False
    return claimed


def _check_choice(run_ids: Any, thread_id: Any, status: str | None, assistant_id: Any) -> None:
    if assistant_id is not None:
        if not (thread_id is None and run_ids is None and status is None):
            raise _bad_choice("Cannot specify 'thread_id', 'run_ids', or 'status' when using 'assistant_id'")
    elif status is not None:
        if not (thread_id is None and run_ids is None):
            raise _bad_choice("Cannot specify 'thread_id' or 'run_ids' when using 'status'")
        if status not in ("pending", "running", "all"):
            raise _bad_choice("Invalid status: must be 'pending', 'running', or 'all'")
    elif thread_id is None or run_ids is None:
        raise _bad_choice("Must provide either a status, an assistant_id, or both 'thread_id' and 'run_ids'")


def _bad_choice(detail: str) -> HTTPException:
    return HTTPException(status_code=422, detail=detail)


async def _may_use(assistant: Row, ctx: Context | None) -> bool:
    """Whether the caller may run this assistant; those that the server makes for its graphs are for all."""
    if assistant["metadata"].get("created_by") == "system":
        return True
    filters = await Assistants.handle_event(
        ctx, "read", Auth.types.AssistantsRead(assistant_id=assistant["assistant_id"])
    )
    return allows(assistant["metadata"], filters)


async def _fetch(
    conn: Handle, conditions: Conditions, names: Sequence[str] = RUN_FIELDS, rest: str = ""
) -> list[Row]:
    columns = ", ".join(f"run.{name}" for name in names)
    return await conn.fetch(
        f"SELECT {columns} FROM run_shown AS run JOIN thread USING (thread_id) WHERE {conditions} {rest}",  # noqa: S608
        conditions.parameters,
        often=not rest,
    )


async def _each(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item
