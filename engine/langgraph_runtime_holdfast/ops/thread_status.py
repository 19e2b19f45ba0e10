"""The thread's row after its state has changed: by a run that ends, or by a caller's update.

The end of a run is one transaction over the run, its thread and its callback, and only the worker that holds
the run's lease can write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.checkpoint_rows import delete_run_checkpoints
from langgraph_runtime_holdfast.checkpoint_writer import LEASE_LOST, MAY_SAVE, Batch, CheckpointWriter
from langgraph_runtime_holdfast.database import Executor, Handle
from langgraph_runtime_holdfast.limits import TooLargeError, check_size
from langgraph_runtime_holdfast.metrics.meters import meters
from langgraph_runtime_holdfast.ops.encryption import encrypted, using_custom_encryption
from langgraph_runtime_holdfast.ops.lease import (
    Lease,
    LeaseLostError,
    StepsLostError,
    current_lease,
    explained,
)
from langgraph_runtime_holdfast.ops.run_feed import append_event
from langgraph_runtime_holdfast.ops.statement import json_bytes, json_text
from langgraph_runtime_holdfast.outbox import bell, rows
from langgraph_runtime_holdfast.outbox.message import make_message
from langgraph_runtime_holdfast.retry import RETRIABLE_EXCEPTIONS, patiently

_SET_THREAD: Final = """
SELECT set_thread_state_v2(
    changed => %(thread_id)s, new_status => %(status)s, new_error => %(error)s::jsonb,
    more_metadata => %(metadata)s::jsonb, has_checkpoint => %(has_checkpoint)s,
    new_values => %(values)s::jsonb, new_interrupts => %(interrupts)s::jsonb
) AS is_there
"""
_END_RUN: Final = f"""
SELECT end_run_v2(
    ended => %(run_id)s, held_token => %(token)s, run_status => %(run_status)s, its_thread => %(thread_id)s,
    new_status => %(status)s, new_error => %(error)s::jsonb, more_metadata => %(metadata)s::jsonb,
    has_checkpoint => %(has_checkpoint)s, new_values => %(values)s::jsonb,
    new_interrupts => %(interrupts)s::jsonb, saved => %(saved)s, blobs => %(blobs)b::bytea[]
) AS has_more WHERE {MAY_SAVE}
"""

Checkpoint = Mapping[str, Any]


async def set_thread_status(
    conn: Executor, thread_id: UUID, checkpoint: Checkpoint | None, exception: BaseException | None
) -> None:
    """Write a new state to the thread's row.

    Args:
        conn: The database.
        thread_id: Which thread.
        checkpoint: `values`, `next` and `tasks`; None keeps the values and interrupts that are there.
        exception: Why the state could not be computed.

    Raises:
        HTTPException: 404, there is no such thread; 413, its values are larger than HOLDFAST_LARGEST_MB.
    """
    row = await _thread_parameters(thread_id, checkpoint, exception, status="error" if exception else None)
    done = await conn.fetch_one(_SET_THREAD, row, often=True)
    if not (done and done["is_there"]):
        raise HTTPException(status_code=404, detail=f"Thread {thread_id} not found.")


async def end_run(
    conn: Handle,
    thread_id: UUID,
    run_id: UUID,
    run_status: str,
    graph_id: str,
    checkpoint: Checkpoint | None,
    exception: BaseException | None,
) -> None:
    """Write the status of a run, its thread's state, and its callback if it has a webhook, together.

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

    lease = current_lease()
    rest = None
    if lease is not None:
        rest, refused = await _rest_to_save(lease)
        if refused is not None and exception is None:
            run_status, exception = "error", refused

    async def parameters() -> dict[str, Any]:
        failed = exception is not None and not isinstance(exception, UserInterrupt)
        status = "error" if failed else None
        return await _thread_parameters(thread_id, checkpoint, explained(exception), status=status)

    try:
        row = await parameters()
    except TooLargeError as error:
        # The thread keeps the values that it has; the run's checkpoints, each within the bound, are saved.
        if exception is None:
            run_status, exception = "error", error
            if lease is not None:
                await _tell_refusal(lease, error)
        checkpoint = None
        row = await parameters()
    row["metadata"] = json_text({"graph_id": graph_id})
    token = lease.token if lease is not None else None
    row |= {"run_id": run_id, "run_status": run_status, "token": token}
    rolls_back = run_status == "rollback"
    # A run that is rolled back leaves nothing.
    row |= {"saved": None, "blobs": []} if rest is None or rolls_back else rest.parameters()
    row |= (CheckpointWriter() if lease is None or rolls_back else lease.writer()).basis
    message = None
    if lease is not None and lease.webhook is not None:
        shown = checkpoint
        if checkpoint is not None and not using_custom_encryption():
            # Encoded once for both: there may be tens of megabytes of them.
            shown = {**checkpoint, "values": orjson.Fragment(row["values"].data)}
        message = await make_message(lease, run_status, shown, exception)

    async def write(executor: Executor) -> None:
        done = await executor.fetch_one(_END_RUN, row, often=True)
        if done is None:
            raise StepsLostError
        if done["has_more"] is None:
            raise _gone(run_id, token)
        if lease is not None:
            lease.has_next = done["has_more"]
        if rolls_back:
            await delete_run_checkpoints(executor, thread_id, [run_id])
        if message is not None:
            await rows.add(executor, run_id, thread_id, message)

    async def write_together() -> None:
        async with conn.transaction() as tx:
            await write(tx)

    try:
        with nullcontext() if lease is None else lease.ending():
            await patiently(write_together if rolls_back or message is not None else lambda: write(conn))
    except psycopg.DataError as error:
        if lease is None or rest is None:
            raise
        # A checkpoint that the database will never take.
        await _tell_refusal(lease, error)
        await end_run(conn, thread_id, run_id, "error", graph_id, checkpoint, exception or error)
        return
    except psycopg.DatabaseError as error:
        if error.sqlstate != LEASE_LOST:
            raise
        raise _gone(run_id, token) from None
    meters().runs_ended.labels(graph_id, run_status).inc()
    if message is not None:
        bell.ring()


async def _rest_to_save(lease: Lease) -> tuple[Batch | None, Exception | None]:
    """Wait for the run's checkpoints.

    Returns:
        What is still to be saved, and what is wrong with a checkpoint that the database will never take.

    Raises:
        LeaseLostError: The run is another worker's now, or was deleted.
        psycopg.Error: The database is away; the run goes on from its last checkpoint.
    """
    try:
        return await lease.writer().take_rest(), None
    except RETRIABLE_EXCEPTIONS:
        raise
    except Exception as error:
        await _tell_refusal(lease, error)
        return None, error


async def _tell_refusal(lease: Lease, error: Exception) -> None:
    await append_event(lease.thread_id, lease.run_id, "error", json_text(error).encode(), resumable=False)


def _gone(run_id: UUID, token: int | None) -> Exception:
    if token is None:
        return HTTPException(status_code=404, detail=f"Run {run_id} not found")
    return LeaseLostError(f"Run {run_id} is gone, or another worker has it")


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
    values = json_bytes(state["values"]) if checkpoint is not None else None
    if values is not None:
        check_size("The thread's values", len(values.data))
    return {
        "thread_id": thread_id,
        "status": status or ("interrupted" if goes_on else "idle"),
        "error": json_text(state["error"]) if exception is not None else None,
        "metadata": "{}",
        "has_checkpoint": checkpoint is not None,
        "values": values,
        "interrupts": json_text(state["interrupts"]),
    }
