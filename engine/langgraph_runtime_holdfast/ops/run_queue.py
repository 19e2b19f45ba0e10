"""The queue in SQL: claiming due runs, putting them back, taking over those of dead workers, gauges.

A claim (`claim_runs_v2`) takes the oldest due runs whose thread is free: none of its runs is running and none
is before them. `SKIP LOCKED` keeps claims out of each other's way; if all else fails, the unique index
`run_one_at_a_time` holds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import psycopg

from langgraph_runtime_holdfast import pause
from langgraph_runtime_holdfast.availability import RETRY_AFTER_EXHAUSTED_SECONDS, is_exhausted
from langgraph_runtime_holdfast.database import Executor, Row, connect
from langgraph_runtime_holdfast.metrics.meters import meters
from langgraph_runtime_holdfast.ops.encryption import decrypted_text, encrypted_text
from langgraph_runtime_holdfast.ops.lease import Lease, heartbeat, now
from langgraph_runtime_holdfast.ops.signals import wake_all, wake_here
from langgraph_runtime_holdfast.settings import WORKER_ID, settings

RUN_FIELDS: Final = (
    "run_id",
    "thread_id",
    "assistant_id",
    "created_at",
    "updated_at",
    "status",
    "metadata",
    "kwargs",
    "multitask_strategy",
    "langsmith_session_name",
)
"""The columns that the API shows."""

_CLAIM: Final = f"""
SELECT * FROM claim_runs_v2(
    most => CASE WHEN {pause.IS_ON} THEN 0 ELSE %(limit)s END, worker => %(worker)s,
    lease_seconds => %(seconds)s, may_suspect => %(may_suspect)s
)
"""  # noqa: S608 - constants
_PUT_BACK: Final = """
UPDATE run_inflight SET status = 'pending', attempt = attempt - %(uncounted)s,
    lease_token = NULL, leased_by = NULL, leased_until = NULL, updated_at = now(),
    first_error = coalesce(first_error, %(error)s),
    available_at = now() + CASE WHEN cancel_action IS NULL THEN %(delay)s ELSE 0 END * interval '1 second'
WHERE run_id = %(run_id)s AND lease_token = %(token)s AND status = 'running'
"""
_PUT_BACK_UNHELD: Final = """
UPDATE run_inflight SET status = 'pending', attempt = attempt - 1, lease_token = NULL, leased_by = NULL,
    leased_until = NULL, updated_at = now()
WHERE status = 'running' AND leased_by = %(worker)s AND run_id <> ALL(%(held)s::uuid[])
"""
_NOTE_ERROR: Final = """
UPDATE run_inflight SET first_error = %(error)s
WHERE run_id = %(run_id)s AND first_error IS NULL
"""
_SWEEP: Final = """
UPDATE run_inflight SET status = 'pending', lease_token = NULL, leased_until = NULL, available_at = now(),
    updated_at = now(), leased_by = NULL, deaths = deaths + 1,
    first_error = coalesce(first_error, format('The worker %%s died, or lost the database', leased_by))
WHERE run_id IN (
    SELECT run_id FROM run_inflight
    WHERE %(may_take)s AND status = 'running' AND leased_until < now()
      -- A database that was away could not be told of the heartbeats.
      AND pg_postmaster_start_time() < now() - make_interval(secs => %(seconds)s)
      -- Nor could one in which this has waited for a lock.
      AND clock_timestamp() < now() + make_interval(secs => %(seconds)s / 4)
    ORDER BY leased_until LIMIT 500
    FOR UPDATE SKIP LOCKED
)
RETURNING run_id
"""
_FORGET: Final = f"""
DELETE FROM run_result WHERE created_at < now() - make_interval(mins => %(minutes)s) AND NOT {pause.IS_ON}
"""  # noqa: S608 - constants
_STATS: Final = """
WITH inflight AS (
    SELECT status, thread_id, extract(epoch FROM now() - created_at)::float8 AS waits,
           -- Not EXISTS, which would look for each that waits; those that run are few.
           status = 'pending' AND created_at < now() AND thread_id NOT IN (
               SELECT thread_id FROM run_inflight WHERE status = 'running'
           ) AS unblocked
    FROM run_inflight
)
SELECT count(*) FILTER (WHERE status = 'pending') AS n_pending,
       count(*) FILTER (WHERE status = 'running') AS n_running,
       max(waits) FILTER (WHERE status = 'pending') AS pending_runs_wait_time_max_secs,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY waits) FILTER (WHERE status = 'pending')
           AS pending_runs_wait_time_med_secs,
       max(waits) FILTER (WHERE unblocked) AS pending_unblocked_runs_wait_time_max_secs
FROM inflight
"""
_KEPT_RESULT_MINUTES: Final = 10
_SUSPECT_AFTER_DEATHS: Final = 2
"""As `claim_runs_v2` has it. The first death says little: all runs of a worker die with it."""
_LONGEST_BACK_OFF_SECONDS: Final = 60.0


async def claim(limit: int) -> list[tuple[dict[str, Any], Lease, tuple[str, str | None] | None]]:
    """Claim due runs.

    Args:
        limit: How many at most.

    Returns:
        For each: the run as the API has it, its lease, and the wish to cancel it (action and reason) that an
        earlier worker did not live to see.
    """
    parameters = {
        "limit": limit,
        "worker": WORKER_ID,
        "seconds": settings().lease_seconds,
        "may_suspect": all(lease.deaths < _SUSPECT_AFTER_DEATHS for lease in heartbeat().all_held()),
    }
    async with connect() as handle:
        asked_at = now()
        try:
            rows = await handle.fetch(_CLAIM, parameters, often=True)
        except psycopg.errors.UniqueViolation:
            # Another claim was quicker with a run of the same thread; the next look sees it.
            rows = await handle.fetch(_CLAIM, parameters, often=True)
    held_until = asked_at + settings().lease_seconds
    for row in rows:
        row["first_error"] = await decrypted_text(row["first_error"])
    return [_claimed(row, held_until) for row in rows]


def _claimed(row: Row, held_until: float) -> tuple[dict[str, Any], Lease, tuple[str, str | None] | None]:
    run = {name: row[name] for name in RUN_FIELDS}
    return run, _lease(row, run, held_until), _wish(row)


def _lease(row: Row, run: dict[str, Any], held_until: float) -> Lease:
    return Lease(
        held_until=held_until,
        run_id=row["run_id"],
        thread_id=row["thread_id"],
        token=row["lease_token"],
        attempt=row["attempt"],
        first_error=row["first_error"],
        listener=row["listener"],
        deaths=row["deaths"],
        on_new_thread=row["on_new_thread"],
        temporary=bool(row["kwargs"].get("temporary")),
        run=run,
        saves_behind=row["kwargs"].get("durability") in (None, "async"),
    )


def _wish(row: Row) -> tuple[str, str | None] | None:
    return (row["cancel_action"], row["cancel_reason"]) if row["cancel_action"] else None


async def put_back(executor: Executor, lease: Lease, error: BaseException | None) -> bool:
    """Return a run to the queue: after a back-off, or at once and uncounted if its process stops.

    Args:
        executor: Where.
        lease: The lease that ends with it.
        error: What ended the attempt, kept if it is the first.

    Returns:
        Whether it was done; if not, the run is back already, has ended, or is another worker's.
    """
    delay = 0.0 if lease.is_handed_back else _back_off_seconds(lease.attempt, error)
    parameters = {
        "run_id": lease.run_id,
        "token": lease.token,
        "uncounted": int(lease.is_handed_back),
        "delay": delay,
        "error": await encrypted_text(_told(error)),
    }
    if not await executor.execute(_PUT_BACK, parameters):
        return False
    if lease.is_handed_back:
        meters().runs_handed_back.inc()
        wake_all()
    else:
        meters().runs_retried.inc()
        wake_here(delay)
    return True


async def put_back_unheld() -> None:
    """Give back what this process has claimed without learning of it: the answer to a claim was lost."""
    held = [lease.run_id for lease in heartbeat().all_held()]
    async with connect() as handle:
        await handle.execute(_PUT_BACK_UNHELD, {"worker": WORKER_ID, "held": held}, often=True)


async def note_error(executor: Executor, run_id: UUID, error: BaseException) -> None:
    """Keep the first cause of a run that goes on."""
    if told := _told(error):
        await executor.execute(_NOTE_ERROR, {"run_id": run_id, "error": await encrypted_text(told)})


def _told(error: BaseException | None) -> str | None:
    if error is None:
        return None
    return f"{type(error).__name__}: {error}".replace("\x00", "\ufffd")[:2000]


def _back_off_seconds(attempt: int, error: BaseException | None) -> float:
    longest: float = min(_LONGEST_BACK_OFF_SECONDS, 2.0 ** (attempt - 1))
    if is_exhausted(error):
        # What is full stays so for a while, and the attempts are few.
        longest = max(longest, RETRY_AFTER_EXHAUSTED_SECONDS)
    return longest * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, protects nothing


async def sweep(*, may_take: bool = True) -> Sequence[UUID]:
    """Put the runs of dead workers back into the queue, and forget old results; returns the runs.

    Args:
        may_take: Without it nothing is changed, but the same locks are asked for, so that whether this is
            answered in time tells whether heartbeats are.
    """
    async with connect() as handle:
        rows = await handle.fetch(
            _SWEEP, {"seconds": settings().lease_seconds, "may_take": may_take}, often=True
        )
        if not may_take:
            return []
        await handle.execute(_FORGET, {"minutes": _KEPT_RESULT_MINUTES})
    meters().runs_taken_over.inc(len(rows))
    return [row["run_id"] for row in rows]


async def stats(executor: Executor) -> dict[str, Any]:
    """How many runs wait and run, and how long they have waited, in seconds."""
    return await executor.fetch_one(_STATS) or {}
