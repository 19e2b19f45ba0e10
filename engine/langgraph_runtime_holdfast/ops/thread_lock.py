"""Holding a thread on which no run works, for what changes its checkpoints outside of runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from langgraph_runtime_holdfast.database import Handle, Transaction
from langgraph_runtime_holdfast.ops.thread_rows import not_found
from langgraph_runtime_holdfast.retry import ThreadBusyError

_LOCK: Final = "SELECT 1 FROM thread WHERE thread_id = %(thread_id)s FOR NO KEY UPDATE"
_IN_FLIGHT: Final = """
SELECT run_id FROM run_inflight WHERE thread_id = %(thread_id)s ORDER BY created_at
"""


@asynccontextmanager
async def quiet_thread(conn: Handle, thread_id: UUID, *, pause_seconds: float) -> AsyncIterator[Transaction]:
    """Hold a thread that has no run in flight: until the transaction ends, none can be added.

    So a run that begins later starts from what was written here, and whoever else changes the thread waits.

    Args:
        conn: The database.
        thread_id: Which thread.
        pause_seconds: How long the transaction may be idle between two statements.

    Raises:
        ThreadBusyError: A run works on it or waits to.
        HTTPException: 404, there is no such thread any more.
    """
    async with conn.transaction() as tx:
        # A process that is stopped here would keep the thread locked.
        await tx.allow_silence(pause_seconds)
        if await tx.fetch_one(_LOCK, {"thread_id": thread_id}) is None:
            raise not_found(thread_id)
        if runs := await tx.fetch(_IN_FLIGHT, {"thread_id": thread_id}):
            ids = ", ".join(str(run["run_id"]) for run in runs)
            raise ThreadBusyError(f"Thread {thread_id} has in-flight runs: {ids}")
        yield tx
