"""Threads that expire: after their last activity they are deleted, or keep only their latest checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
import structlog
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.checkpoint_rows import MOST_AT_ONCE, thin_out, weights
from langgraph_runtime_holdfast.database import Handle
from langgraph_runtime_holdfast.ops.thread_lock import quiet_thread
from langgraph_runtime_holdfast.ops.thread_removal import delete_rows
from langgraph_runtime_holdfast.retry import TRANSIENT, ThreadBusyError
from langgraph_runtime_holdfast.settings import settings

logger = structlog.stdlib.get_logger(__name__)

STRATEGIES: Final = ("delete", "keep_latest")
LONGEST_MINUTES: Final = 100 * 366 * 24 * 60
DEFAULT_SWEEP_LIMIT: Final = 10_000
_NOT_NOW: Final[tuple[type[BaseException], ...]] = (*TRANSIENT, NotImplementedError)

MOVE_EXPIRY: Final = "expires_at = now() + ttl_minutes * interval '1 minute'"
"""Part of every UPDATE that is activity of the thread; null stays null."""

# A thread that is busy, or has a run that waits, is in use however old it is.
_EXPIRED: Final = """
FROM thread_order JOIN thread USING (thread_id)
WHERE {which} thread_order.expires_at <= now() AND thread.expires_at <= now()
  AND ttl_strategy = %(strategy)s AND thread.status <> 'busy'
  AND NOT EXISTS (SELECT FROM run_inflight WHERE run_inflight.thread_id = thread.thread_id)
ORDER BY thread_order.expires_at
LIMIT %(limit)s
FOR UPDATE OF thread SKIP LOCKED
"""
_OVERDUE: Final = f"SELECT thread_id {_EXPIRED.format(which='')}"
_TO_DELETE: Final = f"SELECT thread_id {_EXPIRED.format(which='thread.thread_id = ANY(%(ids)s) AND')}"
_PARTS_OF_SILENCE: Final = 4
"""A part may take as long as a statement, and wait for a connection before."""
_POSTPONE: Final = """
UPDATE thread SET expires_at = now() + interval '10 minutes' WHERE thread_id = %(id)s AND expires_at <= now()
"""
# Claimed for a while, like a lease: whoever ends in the middle leaves it to the next sweep.
_CLAIM_TO_PRUNE: Final = f"""
WITH expired AS (SELECT thread_id {_EXPIRED.format(which="")})
UPDATE thread SET expires_at = now() + interval '10 minutes'
FROM expired WHERE thread.thread_id = expired.thread_id
RETURNING thread.thread_id, thread.expires_at
"""  # noqa: S608 - constants
# Until its next activity there is nothing more to prune. What became active meanwhile has a date of its own.
_PRUNED: Final = "UPDATE thread SET expires_at = NULL WHERE thread_id = %(id)s AND expires_at = %(claim)s"
_pruning: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""One thread at a time: it is held by one connection and pruned over another, and many at once would wait for
each other's second one."""


class TimeToLive(NamedTuple):
    """When a thread expires after its last activity, and what happens then; two Nones: never."""

    minutes: float | None
    strategy: str | None


def time_to_live(wanted: Mapping[str, Any] | None) -> TimeToLive:
    """Read the `ttl` of a request: `{"ttl": minutes, "strategy": …}`.

    Raises:
        HTTPException: 422, it is wrong.
    """
    if not wanted:
        return TimeToLive(None, None)
    strategy = wanted.get("strategy") or "delete"
    if strategy not in STRATEGIES:
        raise _wrong(f"the strategy must be one of {', '.join(STRATEGIES)}")
    minutes = wanted.get("ttl", wanted.get("default_ttl"))
    if isinstance(minutes, bool) or not isinstance(minutes, int | float):
        raise _wrong("`ttl` is needed, a number of minutes")
    if not 0 < minutes <= LONGEST_MINUTES:
        raise _wrong(f"`ttl` must be more than 0 and at most {LONGEST_MINUTES} minutes")
    return TimeToLive(float(minutes), strategy)


def default_time_to_live() -> TimeToLive:
    """The one that langgraph.json (or LANGGRAPH_THREAD_TTL) gives every thread that has none of its own."""
    from langgraph_api import config

    default = config.THREAD_TTL
    if not default or default.get("default_ttl") is None:
        return TimeToLive(None, None)
    return time_to_live(default)


async def sweep(conn: Handle, *, limit: int | None, batch_size: int) -> tuple[int, int]:
    """Delete and prune the threads that have expired; any number of replicas may do it at once.

    Args:
        conn: The database.
        limit: How many threads at most.
        batch_size: How many are looked at together; fewer are deleted in one transaction if they have much.

    Returns:
        How many had expired, and how many of them were deleted or pruned. One that could not be is put off.
    """
    left = DEFAULT_SWEEP_LIMIT if limit is None else limit
    expired = done = 0
    for step in (_delete_batch, _prune_batch):
        while left > 0:
            size = min(batch_size, left)
            found, swept, may_be_more = await step(conn, size)
            expired, done, left = expired + found, done + swept, left - found
            if not may_be_more:
                break
    return expired, done


async def _delete_batch(conn: Handle, limit: int) -> tuple[int, int, bool]:
    rows = await conn.fetch(_OVERDUE, {"strategy": "delete", "limit": limit})
    weighed = await weights(conn, [row["thread_id"] for row in rows])
    found = deleted = 0
    for together in _portions(weighed):
        is_large = weighed[together[0]] > MOST_AT_ONCE
        its_found, its_deleted = await _delete_together(conn, together, is_large=is_large)
        found, deleted = found + its_found, deleted + its_deleted
    # Where another replica was quicker with all of them, it goes on.
    return found, deleted, found > 0 and len(rows) == limit


def _portions(weighed: Mapping[UUID, int]) -> Iterator[list[UUID]]:
    """Split threads so that what is deleted in one transaction is little; a large one is alone."""
    together: list[UUID] = []
    weight = 0
    for thread_id, own in weighed.items():
        if together and weight + own > MOST_AT_ONCE:
            yield together
            together, weight = [], 0
        together.append(thread_id)
        weight += own
    if together:
        yield together


async def _delete_together(
    conn: Handle, thread_ids: Sequence[UUID], *, is_large: bool = False
) -> tuple[int, int]:
    """Delete those of the threads that are expired still and nobody else's; returns how many, and deleted."""
    wanted = {"strategy": "delete", "limit": len(thread_ids), "ids": list(thread_ids)}
    try:
        async with conn.transaction() as tx:
            ids = [row["thread_id"] for row in await tx.fetch(_TO_DELETE, wanted)]
            if ids and is_large:
                # In other transactions: what is done stays done. No run begins, for its thread is locked.
                await tx.allow_silence(_PARTS_OF_SILENCE * settings().statement_seconds)
                await thin_out(conn, ids, locked_by=tx)
            await delete_rows(tx, ids)
    except (psycopg.Error, PoolTimeout) as error:
        if len(thread_ids) > 1:
            # One of them must not keep the others.
            each = [await _delete_together(conn, [thread_id]) for thread_id in thread_ids]
            return sum(found for found, _ in each), sum(deleted for _, deleted in each)
        # A database that is away raises here too, and ends the sweep.
        await conn.execute(_POSTPONE, {"id": thread_ids[0]})
        await logger.awarning(
            "An expired thread could not be deleted; it is tried again in ten minutes",
            thread_id=str(thread_ids[0]),
            error=f"{type(error).__name__}: {error}",
        )
        return 1, 0
    return len(ids), len(ids)


async def _prune_batch(conn: Handle, limit: int) -> tuple[int, int, bool]:
    rows = await conn.fetch(_CLAIM_TO_PRUNE, {"strategy": "keep_latest", "limit": limit})
    pruned = 0
    for row in rows:
        pruned += await _prune_one(conn, row["thread_id"], row["expires_at"])
    return len(rows), pruned, len(rows) == limit


async def _prune_one(conn: Handle, thread_id: UUID, claim: datetime) -> bool:
    if not await keep_latest(conn, thread_id):
        return False
    await conn.execute(_PRUNED, {"id": thread_id, "claim": claim})
    return True


async def keep_latest(conn: Handle, thread_id: UUID) -> bool:
    """Remove all checkpoints of a thread but the latest of each namespace.

    Returns:
        Whether it was done. A thread that a run works on, or waits to, is left as it is; so is one that
        is gone, or whose state needs its history, which is logged.
    """
    from langgraph_runtime_holdfast.checkpoint import Checkpointer

    pause_seconds = _PARTS_OF_SILENCE * settings().statement_seconds
    try:
        async with (
            _pruning.setdefault(asyncio.get_running_loop(), asyncio.Lock()),
            quiet_thread(conn, thread_id, pause_seconds=pause_seconds),
        ):
            # The library's own transaction, whose isolation level has to be set before all else.
            await Checkpointer(conn).aprune([str(thread_id)], strategy="keep_latest")
    except (ThreadBusyError, HTTPException):
        return False
    except _NOT_NOW as error:
        await logger.awarning("Thread not pruned", thread_id=str(thread_id), error=str(error))
        return False
    return True


def _wrong(why: str) -> HTTPException:
    return HTTPException(status_code=422, detail=f"Invalid thread ttl: {why}")
