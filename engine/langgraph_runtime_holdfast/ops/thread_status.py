"""The thread's row after its state has changed: by a run that ends, or by a caller's update.

The end of a run is one transaction over the run and its thread, and only the worker that holds the run's
lease can write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import orjson
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.checkpoint_rows import delete_run_checkpoints
from langgraph_runtime_holdfast.database import Handle
from langgraph_runtime_holdfast.ops.encryption import encrypted, using_custom_encryption
from langgraph_runtime_holdfast.ops.lease import LeaseLostError, current_token, explained
from langgraph_runtime_holdfast.ops.statement import json_text
from langgraph_runtime_holdfast.ops.thread_ttl import MOVE_EXPIRY

# Locked by a statement of its own: the next one then sees every run that was added before the lock.
_LOCK: Final = "SELECT thread_id FROM thread WHERE thread_id = %(thread_id)s FOR NO KEY UPDATE"
_SET_THREAD: Final = f"""
UPDATE thread SET
    status = CASE WHEN EXISTS (
        SELECT FROM run WHERE run.thread_id = %(thread_id)s AND run.status IN ('pending', 'running')
    ) THEN 'busy' ELSE %(status)s END,
    error = %(error)s::jsonb,
    metadata = metadata || %(metadata)s::jsonb,
    "values" = CASE WHEN %(has_checkpoint)s THEN %(values)s::jsonb ELSE "values" END,
    interrupts = CASE WHEN %(has_checkpoint)s THEN %(interrupts)s::jsonb ELSE interrupts END,
    updated_at = now(),
    state_updated_at = now(),
    {MOVE_EXPIRY}
WHERE thread_id = %(thread_id)s
"""  # noqa: S608 - constants
# The thread is locked first, as everywhere, and in the same round trip.
_END_RUN: Final = """
WITH locked AS MATERIALIZED (
    SELECT thread_id FROM thread WHERE thread_id = %(thread_id)s FOR NO KEY UPDATE
)
UPDATE run SET
    status = %(status)s,
    updated_at = now(),
    leased_by = CASE WHEN %(status)s = 'running' THEN leased_by END,
    leased_until = CASE WHEN %(status)s = 'running' THEN leased_until END
FROM locked
WHERE run.thread_id = locked.thread_id AND run_id = %(run_id)s
  AND (%(token)s::bigint IS NULL OR lease_token = %(token)s::bigint)
"""
_DELETE_RUN: Final = """
WITH locked AS MATERIALIZED (
    SELECT thread_id FROM thread WHERE thread_id = %(thread_id)s FOR NO KEY UPDATE
)
DELETE FROM run USING locked
WHERE run.thread_id = locked.thread_id AND run_id = %(run_id)s
  AND (%(token)s::bigint IS NULL OR lease_token = %(token)s::bigint)
"""

Checkpoint = Mapping[str, Any]


async def set_thread_status(
    conn: Handle, thread_id: UUID, checkpoint: Checkpoint | None, exception: BaseException | None
) -> None:
    """Write a new state to the thread's row.

    Args:
        conn: The database.
        thread_id: Which thread.
        checkpoint: `values`, `next` and `tasks`; None keeps the values and interrupts that are there.
        exception: Why the state could not be computed.

    Raises:
        HTTPException: 404, there is no such thread.
    """
    row = await _thread_parameters(thread_id, checkpoint, exception, status="error" if exception else None)
    async with conn.transaction() as tx:
        if await tx.fetch_one(_LOCK, row) is None:
            raise HTTPException(status_code=404, detail=f"Thread {thread_id} not found.")
        await tx.execute(_SET_THREAD, row)


async def end_run(
    conn: Handle,
    thread_id: UUID,
    run_id: UUID,
    run_status: str,
    graph_id: str,
    checkpoint: Checkpoint | None,
    exception: BaseException | None,
) -> None:
    """Write the status of a run, and its thread's state, together.

    Args:
        conn: The database.
        thread_id: Which thread.
        run_id: Which of its runs.
        run_status: What the run has become; "rollback" deletes it with its checkpoints.
        graph_id: Kept in the thread's metadata, so that its state can be read later.
        checkpoint: The state in which the run ended; None keeps what the thread's row has.
        exception: Why it ended, if not by itself.

    Raises:
        LeaseLostError: This worker holds the run no more, or the run is gone; nothing was written.
        HTTPException: 404, there is no such run, and it was no worker that asked.
    """
    from langgraph_api.errors import UserInterrupt

    failed = exception is not None and not isinstance(exception, UserInterrupt)
    row = await _thread_parameters(
        thread_id, checkpoint, explained(exception), status="error" if failed else None
    )
    row["metadata"] = json_text({"graph_id": graph_id})
    run = {"thread_id": thread_id, "run_id": run_id, "status": run_status, "token": current_token()}
    rolls_back = run_status == "rollback"
    async with conn.transaction() as tx:
        if not await tx.execute(_DELETE_RUN if rolls_back else _END_RUN, run):
            raise _gone(run)
        if rolls_back:
            await delete_run_checkpoints(tx, thread_id, [run_id])
        await tx.execute(_SET_THREAD, row)


def _gone(run: dict[str, Any]) -> Exception:
    if run["token"] is None:
        return HTTPException(status_code=404, detail=f"Run {run['run_id']} not found")
    return LeaseLostError(f"Run {run['run_id']} is gone, or another worker has it")


async def _thread_parameters(
    thread_id: UUID, checkpoint: Checkpoint | None, exception: BaseException | None, *, status: str | None
) -> dict[str, Any]:
    from langgraph_api.state import patch_interrupt

    goes_on = checkpoint is not None and bool(checkpoint.get("next"))
    interrupts = {
        task["id"]: [patch_interrupt(interrupt) for interrupt in task["interrupts"]]
        for task in (checkpoint or {}).get("tasks") or ()
        if task.get("interrupts")
    }
    state = {
        "values": checkpoint["values"] if checkpoint is not None else None,
        "interrupts": interrupts,
        "error": exception,
    }
    if using_custom_encryption():
        state = await encrypted(orjson.loads(json_text(state)), "thread", list(state))
    return {
        "thread_id": thread_id,
        "status": status or ("interrupted" if goes_on else "idle"),
        "error": json_text(state["error"]) if exception is not None else None,
        "metadata": "{}",
        "has_checkpoint": checkpoint is not None,
        "values": json_text(state["values"]) if checkpoint is not None else None,
        "interrupts": json_text(state["interrupts"]),
    }
