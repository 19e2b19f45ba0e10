"""Rows of the engine's tables, written directly: a run as somebody works on it, without anybody who does."""

from __future__ import annotations

import uuid
from uuid import UUID

from langgraph_runtime_holdfast.database import Executor

_THREAD = "INSERT INTO thread (thread_id) VALUES (%(thread_id)s) ON CONFLICT DO NOTHING"
_RUN = """
WITH made AS (
    INSERT INTO run (run_id, thread_id, assistant_id, kwargs, multitask_strategy)
    VALUES (%(run_id)s, %(thread_id)s, gen_random_uuid(), '{}', 'enqueue')
    RETURNING run_id, thread_id, created_at, updated_at
)
INSERT INTO run_inflight (run_id, thread_id, created_at, updated_at, status, lease_token)
SELECT run_id, thread_id, created_at, updated_at, %(status)s, %(token)s FROM made
"""


async def insert_run(
    handle: Executor,
    thread_id: UUID | str,
    status: str,
    *,
    token: int | None = None,
    run_id: UUID | str | None = None,
) -> UUID:
    """Add a run that waits or runs, with its lease's token, to a thread, which is made if it is not there."""
    values = {"run_id": run_id or uuid.uuid4(), "thread_id": thread_id, "status": status, "token": token}
    await handle.execute(_THREAD, values)
    await handle.execute(_RUN, values)
    return UUID(str(values["run_id"]))
