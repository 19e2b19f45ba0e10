"""What surrounds a worker's attempt at a run: its lease, its cancellation, and the news of its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import structlog

from langgraph_runtime_holdfast.database import Handle, connect, open_pool
from langgraph_runtime_holdfast.ops.lease import Lease, LeaseLostError, held
from langgraph_runtime_holdfast.ops.outgoing import outgoing
from langgraph_runtime_holdfast.ops.run_feed import append_end, close_feed, run_feed
from langgraph_runtime_holdfast.ops.run_queue import note_error, put_back
from langgraph_runtime_holdfast.ops.run_result import keep_result
from langgraph_runtime_holdfast.ops.signals import wake_here
from langgraph_runtime_holdfast.retry import TRANSIENT, patiently
from langgraph_runtime_holdfast.settings import WORKER_ID

logger = structlog.stdlib.get_logger(__name__)

_LAST_SAVES_SECONDS: Final = 3.0
_AWAY_SECONDS: Final = 120.0
_STATUS: Final = "SELECT status FROM run WHERE run_id = %(run_id)s"


@asynccontextmanager
async def enter(
    run_id: UUID, thread_id: UUID | None, loop: asyncio.AbstractEventLoop, resumable: bool
) -> AsyncIterator[Any]:
    """Work on a claimed run; yields the event that is set when the work must stop.

    An exception that comes through means that the run has not ended: it is in the queue again, or somebody
    else's.
    """
    from langgraph_api.asyncio import ValueEvent

    done = ValueEvent()
    lease = held(run_id)
    if lease is None:
        # The queue claims before it starts a worker; without a claim nothing may be written.
        raise RuntimeError(f"Run {run_id} was not claimed by this process")
    # The graph's store and saver take the pool of this loop, which is one of jobs.
    await open_pool()
    with lease.entered(done):
        try:
            yield done
        except BaseException as error:
            await settle(lease, error)
            raise
        lease.is_settled = lease.has_ended = True
        await _tell_end(lease)
    if lease.has_next and not lease.temporary:
        # It is due now.
        wake_here()


async def settle(lease: Lease, error: BaseException) -> None:
    """After an attempt that did not end its run: put it back, or tell its end if nothing is left of it."""
    if lease.is_settled:
        return
    lease.is_settled = True
    # Nothing is gained by giving up while the database is away, unless the process stops.
    is_stopping = lease.is_handed_back and not lease.has_lapsed
    try:
        # What the graph has done is kept, if it can be: the lease ends here.
        async with asyncio.timeout(_LAST_SAVES_SECONDS if is_stopping else _AWAY_SECONDS):
            await lease.settle_saves()
    except Exception as fault:
        await logger.awarning(
            "The last checkpoints of an attempt were not saved; the next one does their steps again",
            run_id=str(lease.run_id),
            thread_id=str(lease.thread_id),
            error=f"{type(fault).__name__}: {fault}",
        )

    async def put() -> None:
        async with connect() as handle:
            await _settle(handle, lease, error)

    try:
        await patiently(put, limit_seconds=0.0 if is_stopping else _AWAY_SECONDS)
    except TRANSIENT as fault:
        await logger.awarning(
            "The run could not be put back; its lease runs out and another worker takes it",
            run_id=str(lease.run_id),
            thread_id=str(lease.thread_id),
            error=str(fault),
        )


async def _settle(handle: Handle, lease: Lease, error: BaseException) -> None:
    if await put_back(handle, lease, error):
        return
    row = await handle.fetch_one(_STATUS, {"run_id": lease.run_id}, often=True)
    if row is None or row["status"] not in ("pending", "running"):
        # Deleted, or ended by a write whose answer was lost: listeners look into the database.
        append_end(lease.thread_id, lease.run_id, lost=True)
        wake_here()
    elif not (lease.is_handed_back or isinstance(error, LeaseLostError)):
        await note_error(handle, lease.run_id, error)


async def _tell_end(lease: Lease) -> None:
    # Of other runs the thread has the result; and whoever waits in this process was handed every event.
    if lease.temporary and lease.listener != WORKER_ID:
        await outgoing().settle(run_feed(lease.thread_id, lease.run_id))
        if lease.listener is not None or lease.events_lost:
            await _keep_result(lease)
    close_feed(lease)


async def _keep_result(lease: Lease) -> None:
    if lease.last_state is None:
        return
    try:
        async with connect() as handle:
            await keep_result(handle, lease.run_id, *lease.last_state)
    except TRANSIENT as fault:
        await logger.aerror(
            "The result of a stateless run is lost: neither Valkey nor Postgres took it",
            run_id=str(lease.run_id),
            thread_id=str(lease.thread_id),
            error=str(fault),
        )
