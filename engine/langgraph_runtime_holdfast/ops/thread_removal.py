"""Deleting threads with all that belongs to them, also while a run works on one.

One transaction removes the thread, its runs and crons (by foreign key) and its checkpoints. A run that works
on it cannot bring anything back: its saver (`checkpoint.py`) asks for the lease in each of its transactions,
waits there for a deletion that is under way, and finds the lease gone.

Of a thread that has saved much, most is deleted before, in parts: a transaction that takes longer than a
statement may would never end, and would be tried for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final
from uuid import UUID

from langgraph_runtime_holdfast.checkpoint_rows import (
    MOST_AT_ONCE,
    delete_thread_checkpoints,
    thin_out,
    weights,
)
from langgraph_runtime_holdfast.database import Handle, Transaction
from langgraph_runtime_holdfast.metrics.meters import meters
from langgraph_runtime_holdfast.ops.filters import restrict
from langgraph_runtime_holdfast.ops.lease import Lease, LeaseLostError, current_lease, current_token
from langgraph_runtime_holdfast.ops.signals import signal_cancel
from langgraph_runtime_holdfast.ops.statement import Conditions
from langgraph_runtime_holdfast.outbox import bell
from langgraph_runtime_holdfast.outbox import rows as outbox
from langgraph_runtime_holdfast.outbox.message import Message, make_message, stateless_end

_WORKED_ON: Final = """
SELECT run.run_id, flight.lease_token, run.kwargs->>'temporary' = 'true' AS temporary
FROM run_inflight AS flight JOIN run ON run.run_id = flight.run_id WHERE flight.thread_id = ANY(%(ids)s)
"""
# Waits for a saver that writes just now, so that what it wrote is seen by the statement after this one.
_DELETE: Final = "DELETE FROM thread WHERE thread_id = ANY(%(ids)s)"


async def delete_threads(
    conn: Handle, thread_ids: Sequence[UUID], filters: Mapping[str, Any] | None
) -> list[UUID]:
    """Delete those of the threads that are there and that the caller may delete; end their runs.

    Returns:
        The ids of the threads that were deleted.

    Raises:
        LeaseLostError: Asked by the worker of a stateless run that another worker has taken over.
    """
    conditions = Conditions()
    conditions.add(f"thread_id = ANY({conditions.value(list(thread_ids))})")
    restrict(conditions, filters, "metadata")
    lease = current_lease()
    message = await _message(lease, thread_ids) if lease is not None and lease.temporary else None
    if lease is None:
        await _thin_out_large(conn, conditions, thread_ids)
    # So ends a stateless run.
    is_end = lease is not None and lease.temporary and lease.thread_id in thread_ids
    end = stateless_end(lease) if lease is not None and is_end else None
    with lease.ending() if lease is not None and is_end else nullcontext():
        async with conn.transaction() as tx:
            rows = await tx.fetch(
                # In one order, so that two such deletions never wait for each other.
                f"SELECT thread_id FROM thread WHERE {conditions} ORDER BY thread_id FOR UPDATE",  # noqa: S608
                conditions.parameters,
            )
            ids = [row["thread_id"] for row in rows]
            runs = await delete_rows(tx, ids)
            if message is not None and lease is not None and lease.thread_id in ids:
                await outbox.add(tx, lease.run_id, lease.thread_id, message)
    if message is not None:
        bell.ring()
    if lease is not None and end is not None and lease.thread_id in ids:
        meters().runs_ended.labels(lease.graph_id, end[0]).inc()
    signal_cancel(runs, "delete", "Its thread was deleted")
    return ids


async def _thin_out_large(conn: Handle, conditions: Conditions, thread_ids: Sequence[UUID]) -> None:
    """Have what is deleted afterwards in one transaction be little; nothing is left to be had from a part."""
    weighed = await weights(conn, thread_ids)
    if sum(weighed.values()) <= MOST_AT_ONCE:
        return
    rows = await conn.fetch(
        f"SELECT thread_id FROM thread WHERE {conditions}",  # noqa: S608 - values are parameters
        conditions.parameters,
    )
    allowed = {row["thread_id"] for row in rows}
    for thread_id, weight in weighed.items():
        if thread_id in allowed and weight > MOST_AT_ONCE // len(weighed):
            await thin_out(conn, [thread_id])


async def _message(lease: Lease, thread_ids: Sequence[UUID]) -> Message | None:
    """The callback of the stateless run whose worker ends it by this deletion, if it is one."""
    if lease.thread_id not in thread_ids or lease.webhook is None:
        return None
    end = stateless_end(lease)
    # Its checkpoints are nobody's to see: stateless runs report no values, as the stock server has it.
    return None if end is None else await make_message(lease, end[0], None, end[1])


async def delete_rows(tx: Transaction, thread_ids: Sequence[UUID]) -> list[UUID]:
    """Delete threads that the transaction has locked.

    Returns:
        The runs that others were working on.
    """
    if not thread_ids:
        return []
    token = current_token()
    runs = await tx.fetch(_WORKED_ON, {"ids": list(thread_ids)})
    if token is not None and any(run["temporary"] and run["lease_token"] != token for run in runs):
        raise LeaseLostError("Another worker has this run; its thread stays")
    await tx.execute(_DELETE, {"ids": list(thread_ids)})
    await delete_thread_checkpoints(tx, thread_ids)
    return [run["run_id"] for run in runs if token is None or run["lease_token"] != token]
