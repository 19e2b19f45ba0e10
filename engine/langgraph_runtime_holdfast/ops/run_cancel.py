"""Cancelling runs: those that wait end at once, those that run are told to.

A wish to cancel is written into the run's row, where its worker's heartbeat finds it, and sent as a signal,
which is quicker.

One that waits and was never tried ends without a callback, as in the stock server. One that was tried, and
waits to be tried again, has no worker that would tell its end, so its callback is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from langgraph_runtime_holdfast import checkpoint_rows
from langgraph_runtime_holdfast.database import Handle, Row, Transaction
from langgraph_runtime_holdfast.ops.encryption import decrypted
from langgraph_runtime_holdfast.ops.filters import restrict
from langgraph_runtime_holdfast.ops.lease import Lease
from langgraph_runtime_holdfast.ops.run_feed import append_end
from langgraph_runtime_holdfast.ops.run_queue import RUN_FIELDS
from langgraph_runtime_holdfast.ops.signals import signal_cancel, wake_all
from langgraph_runtime_holdfast.ops.statement import Conditions
from langgraph_runtime_holdfast.outbox import bell
from langgraph_runtime_holdfast.outbox import rows as outbox
from langgraph_runtime_holdfast.outbox.message import make_message

_LOCK_THREADS: Final = """
SELECT thread_id FROM thread WHERE thread_id = ANY(%(thread_ids)s) ORDER BY thread_id FOR NO KEY UPDATE
"""
# So that it is decided by the rows as they are: a run that is claimed meanwhile is one that runs.
_LOCK_RUNS: Final = """
SELECT run_id FROM run_inflight WHERE run_id = ANY(%(run_ids)s) ORDER BY run_id FOR NO KEY UPDATE
"""
_INTERRUPT_WAITING: Final = """
WITH ended AS (
    DELETE FROM run_inflight WHERE run_id = ANY(%(run_ids)s) AND status = 'pending' RETURNING *
)
UPDATE run SET status = 'interrupted', updated_at = now(),
    attempt = ended.attempt, first_error = ended.first_error
FROM ended WHERE run.run_id = ended.run_id
RETURNING run.run_id, run.thread_id
"""
# One that was handed back counts no attempt, and has its cause.
_WAS_TRIED: Final = "(flight.attempt > 0 OR flight.first_error IS NOT NULL)"
_TO_REPORT: Final = f"""
SELECT {", ".join(f"run.{name}" for name in RUN_FIELDS)}, flight.attempt
FROM run_inflight AS flight JOIN run USING (run_id)
WHERE flight.run_id = ANY(%(run_ids)s) AND flight.status = 'pending' AND {_WAS_TRIED}
  AND run.kwargs->>'webhook' IS NOT NULL
"""  # noqa: S608 - constants
_ROLL_BACK_WAITING: Final = f"""
DELETE FROM run USING run_inflight AS flight
WHERE flight.run_id = ANY(%(run_ids)s) AND flight.status = 'pending' AND run.run_id = flight.run_id
RETURNING run.run_id, run.thread_id, {_WAS_TRIED} AS was_tried
"""  # noqa: S608
_TELL_RUNNING: Final = """
UPDATE run_inflight SET cancel_action = %(action)s, cancel_reason = %(reason)s, updated_at = now()
WHERE run_id = ANY(%(run_ids)s) AND status = 'running'
RETURNING run_id
"""
# What it was before the runs that waited: asking for input, or idle.
_FREE_THREADS: Final = """
UPDATE thread SET status = CASE WHEN interrupts = '{}' THEN 'idle' ELSE 'interrupted' END, updated_at = now()
WHERE thread_id = ANY(%(thread_ids)s) AND NOT EXISTS (
    SELECT FROM run_inflight WHERE run_inflight.thread_id = thread.thread_id
)
"""
# A run that has not ended is "pending" in its own row, whether it runs or waits.
_DELETE: Final = """
DELETE FROM run WHERE run_id = %(run_id)s AND thread_id = %(thread_id)s RETURNING status
"""


async def find_runs(
    conn: Handle,
    filters: Mapping[str, Any] | None,
    *,
    run_ids: Sequence[UUID] | None = None,
    thread_id: UUID | None = None,
    assistant_id: UUID | None = None,
    statuses: Sequence[str] | None = None,
) -> list[Row]:
    """The ids and threads of the runs that the caller may see and that are asked for."""
    conditions = Conditions()
    conditions.equal("run.thread_id", thread_id)
    conditions.equal("run.assistant_id", assistant_id)
    if run_ids is not None:
        conditions.add(f"run.run_id = ANY({conditions.value(list(run_ids))})")
    source = "run"
    if statuses is not None:
        source = "run_inflight AS flight JOIN run ON run.run_id = flight.run_id"
        conditions.add(f"flight.status = ANY({conditions.value(list(statuses))})")
    restrict(conditions, filters, "thread.metadata")
    return await conn.fetch(
        f"SELECT run.run_id, run.thread_id FROM {source} "  # noqa: S608
        f"JOIN thread ON thread.thread_id = run.thread_id WHERE {conditions}",
        conditions.parameters,
    )


async def cancel_runs(conn: Handle, runs: Sequence[Row], action: str, reason: str | None) -> int:
    """Cancel those of the runs that still wait or run.

    Args:
        conn: The database.
        runs: From `find_runs`.
        action: "interrupt" keeps what they have done; "rollback" removes them with their checkpoints.
        reason: Told to whoever looks at the run's end.

    Returns:
        How many there were.
    """
    parameters = {"run_ids": [run["run_id"] for run in runs], "action": action, "reason": reason}
    threads = {"thread_ids": sorted({run["thread_id"] for run in runs})}
    async with conn.transaction() as tx:
        # Threads before runs, as everywhere, so that nobody waits in a circle.
        await tx.execute(_LOCK_THREADS, threads)
        await tx.execute(_LOCK_RUNS, parameters)
        running = await tx.fetch(_TELL_RUNNING, parameters)
        reported = await _report(tx, parameters)
        if action == "rollback":
            ended = await _roll_back_waiting(tx, parameters)
        else:
            ended = await tx.fetch(_INTERRUPT_WAITING, parameters)
        if ended:
            await tx.execute(_FREE_THREADS, {"thread_ids": list({run["thread_id"] for run in ended})})
    if reported:
        bell.ring()
    signal_cancel([run["run_id"] for run in running], action, reason)
    _tell_ends([run["run_id"] for run in ended], lost=False)
    return len(running) + len(ended)


async def _report(tx: Transaction, parameters: dict[str, Any]) -> bool:
    """Write the callbacks of those that were tried and end now; returns whether there are any."""
    from langgraph_api.errors import UserInterrupt, UserRollback

    rolls_back, reason = parameters["action"] == "rollback", parameters["reason"]
    status, kind = ("rollback", UserRollback) if rolls_back else ("interrupted", UserInterrupt)
    told = False
    for run in await tx.fetch(_TO_REPORT, parameters):
        attempt = run.pop("attempt")
        run["kwargs"] = await decrypted(run["kwargs"], "run", ["input", "command", "config", "context"])
        lease = Lease(
            run["run_id"], run["thread_id"], token=0, attempt=attempt, run=run, started_at=run["created_at"]
        )
        # What the attempts have left is in the thread's checkpoints.
        message = await make_message(lease, status, None, kind(reason) if reason else kind())
        if message is not None:
            await outbox.add(tx, run["run_id"], run["thread_id"], message)
            told = True
    return told


async def _roll_back_waiting(tx: Transaction, parameters: dict[str, Any]) -> list[Row]:
    deleted = await tx.fetch(_ROLL_BACK_WAITING, parameters)
    for run in deleted:
        # One that has never been tried has written nothing.
        if run["was_tried"]:
            await checkpoint_rows.delete_run_checkpoints(tx, run["thread_id"], [str(run["run_id"])])
    return deleted


async def delete_run(conn: Handle, run_id: UUID, thread_id: UUID) -> bool:
    """Delete a run with its checkpoints, also one that runs; returns whether there was one."""
    where = {"run_id": run_id, "thread_id": thread_id}
    async with conn.transaction() as tx:
        await tx.execute(_LOCK_THREADS, {"thread_ids": [thread_id]})
        deleted = await tx.fetch_one(_DELETE, where)
        if deleted is None:
            return False
        # After the run's row: its worker can write nothing more.
        await checkpoint_rows.delete_run_checkpoints(tx, thread_id, [str(run_id)])
        if deleted["status"] == "pending":
            await tx.execute(_FREE_THREADS, {"thread_ids": [thread_id]})
    if deleted["status"] == "pending":
        signal_cancel([run_id], "delete", None)
        _tell_ends([run_id], lost=True)
    return True


def _tell_ends(run_ids: Sequence[UUID], *, lost: bool) -> None:
    for run_id in run_ids:
        append_end(run_id, lost=lost)
    if run_ids:
        # What waited behind them is due now.
        wake_all()
