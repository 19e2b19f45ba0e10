"""The result of a run from the database, for listeners whose events Valkey lost."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import orjson

from langgraph_runtime_holdfast.database import Executor
from langgraph_runtime_holdfast.ops.encryption import decrypted, encrypted, using_custom_encryption
from langgraph_runtime_holdfast.ops.statement import json_text

# The values as text, which is passed on: to parse tens of megabytes and encode them again takes a second, in
# which nothing else of the process runs.
_THREAD: Final = """
SELECT status, interrupts, error, convert_to(
    CASE WHEN jsonb_typeof("values") = 'object' THEN "values"::text ELSE '{}' END, 'UTF8'
) AS "values"
FROM thread WHERE thread_id = %(thread_id)s
"""
_KEPT: Final = "SELECT event, payload FROM run_result WHERE run_id = %(run_id)s"
_KEEP: Final = """
INSERT INTO run_result (run_id, event, payload) VALUES (%(run_id)s, %(event)s, %(payload)s)
ON CONFLICT (run_id) DO UPDATE SET event = excluded.event, payload = excluded.payload, created_at = now()
"""


async def thread_result(
    executor: Executor, thread_id: UUID, *, for_join: bool = False
) -> tuple[bytes, bytes] | None:
    """The state that a run left in its thread, as the event and payload that would have told it.

    Args:
        executor: Where to look.
        thread_id: The thread.
        for_join: As the stock server answers a join that was told nothing: of a thread that waits only what
            it waits for, of an empty one an empty state. Then None says that the thread is gone.
    """
    row = await executor.fetch_one(_THREAD, {"thread_id": thread_id}, often=True, binary=True)
    if row is None:
        return None
    values: bytes = row["values"]
    thread: dict[str, Any] = await decrypted(row, "thread", ["interrupts", "error"])
    if using_custom_encryption():
        plain = await decrypted({"values": orjson.loads(values)}, "thread", ["values"])
        values = json_text(plain["values"]).encode()
    if thread["status"] == "error" and thread["error"]:
        return b"error", json_text(thread["error"]).encode()
    asked = [one for each in (thread["interrupts"] or {}).values() for one in each]
    if thread["status"] == "interrupted" and asked:
        values = b"{}" if for_join else values
        comma = b"" if values == b"{}" else b","
        values = b'%s%s"__interrupt__":%s}' % (values[:-1], comma, json_text(asked).encode())
    return (b"values", values) if for_join or values != b"{}" else None


async def keep_result(executor: Executor, run_id: UUID, event: str, payload: bytes) -> None:
    """Keep the result of a stateless run, whose thread is gone, for some minutes."""
    kept = payload.decode()
    if using_custom_encryption():
        # As the values of its thread would be.
        state = await encrypted({"values": orjson.loads(payload)}, "thread", ["values"])
        kept = json_text(state["values"])
    await executor.execute(_KEEP, {"run_id": run_id, "event": event, "payload": kept})


async def kept_result(executor: Executor, run_id: UUID) -> tuple[bytes, bytes] | None:
    """The result of a stateless run, if it was kept."""
    row = await executor.fetch_one(_KEPT, {"run_id": run_id}, often=True)
    if row is None:
        return None
    payload = row["payload"].encode()
    if using_custom_encryption():
        state = await decrypted({"values": orjson.loads(payload)}, "thread", ["values"])
        payload = json_text(state["values"]).encode()
    return row["event"].encode(), payload
