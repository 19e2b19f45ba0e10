"""Taking one thread, in one transaction: a process that dies leaves it whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.database import Handle, Row, Transaction
from langgraph_runtime_holdfast.moving.choice import Rule, choose
from langgraph_runtime_holdfast.moving.content import MARK, NotTakenError, OldThread, Source, new_id
from langgraph_runtime_holdfast.moving.session import graphs
from langgraph_runtime_holdfast.ops.encryption import encrypted
from langgraph_runtime_holdfast.ops.statement import json_text
from langgraph_runtime_holdfast.ops.thread_state import as_checkpoint, open_graph
from langgraph_runtime_holdfast.ops.thread_status import set_thread_status

_PAUSE_SECONDS: Final = 600.0
"""Between two statements, while the source is read."""
_HERE: Final = """
SELECT metadata, EXISTS (SELECT FROM run_inflight WHERE run_inflight.thread_id = thread.thread_id) AS is_busy
FROM thread WHERE thread_id = %(id)s FOR NO KEY UPDATE
"""
_ADD: Final = """
INSERT INTO thread (thread_id, metadata) VALUES (%(id)s, %(metadata)s::jsonb) ON CONFLICT DO NOTHING
"""
_FINISH: Final = """
UPDATE thread SET status = CASE WHEN %(is_error)s THEN 'error' ELSE status END,
    metadata = metadata || %(metadata)s::jsonb,
    created_at = coalesce(%(created_at)s, created_at),
    updated_at = coalesce(%(updated_at)s, updated_at),
    state_updated_at = coalesce(%(updated_at)s, state_updated_at)
WHERE thread_id = %(id)s
"""


class Result(NamedTuple):
    """What became of a thread."""

    is_new: bool
    """It was not here, or not all of it."""
    stands: bool = False
    """It stands before a node and asks nobody: paused there by its graph, or in the midst of a run."""


async def take_thread(
    handle: Handle,
    source: Source,
    thread: OldThread,
    rules: Sequence[Rule],
    more_metadata: dict[str, Any],
    *,
    is_dry: bool,
) -> Result:
    """Bring a thread here, or see that it is here.

    Raises:
        NotTakenError: It cannot be brought; nothing of it was changed here.
    """
    if thread.fault:
        raise NotTakenError(thread.fault)
    graph_id = "" if thread.is_empty else choose(thread, rules, graphs())
    identity = new_id(thread.thread_id)
    outcome = Result(is_new=False)
    try:
        async with handle.transaction() as tx:
            await tx.allow_silence(_PAUSE_SECONDS)
            here = await tx.fetch_one(_HERE, {"id": identity})
            if here is None or _fingerprint(here) != thread.fingerprint:
                outcome = await _bring(tx, source, thread, identity, graph_id, more_metadata, here)
            if is_dry:
                # How a block of psycopg is left without its changes.
                raise psycopg.Rollback
    except HTTPException as error:
        raise NotTakenError(error.detail) from error
    except psycopg.DataError as error:
        raise NotTakenError(f"Postgres does not take it: {error}") from error
    return outcome


def _fingerprint(here: Row) -> str | None:
    mark = here["metadata"].get(MARK)
    return mark.get("fingerprint") if isinstance(mark, dict) else None


async def _bring(
    tx: Transaction,
    source: Source,
    thread: OldThread,
    identity: UUID,
    graph_id: str,
    more_metadata: dict[str, Any],
    here: Row | None,
) -> Result:
    if here is not None and here["is_busy"]:
        raise NotTakenError("a run works on it here")
    metadata = await _metadata(source, thread, identity, graph_id, more_metadata)
    if here is None:
        await tx.execute(_ADD, {"id": identity, "metadata": metadata})
    elif thread.is_empty or not await source.difference(thread, tx, identity, graph_id):
        return Result(is_new=False)
    if thread.is_empty:
        await _finish(tx, thread, identity, metadata)
        return Result(is_new=True)
    await source.write(thread, tx, identity, graph_id)
    if found := await source.difference(thread, tx, identity, graph_id):
        where = "it is here with other content, which stays" if here else "it would not be the same here"
        raise NotTakenError(f"{where}: {found}")
    stands = await _show(tx, identity, graph_id)
    await _finish(tx, thread, identity, metadata)
    return Result(is_new=True, stands=stands)


async def _finish(tx: Transaction, thread: OldThread, identity: UUID, metadata: str) -> None:
    shown = {name: getattr(thread, name) for name in ("created_at", "updated_at", "is_error")}
    await tx.execute(_FINISH, {"id": identity, "metadata": metadata, **shown})


async def _metadata(
    source: Source, thread: OldThread, identity: UUID, graph_id: str, more: dict[str, Any]
) -> str:
    mark = {"from": source.kind, "fingerprint": thread.fingerprint}
    if thread.thread_id != str(identity):
        mark["thread_id"] = thread.thread_id
    whole = {**thread.metadata, **more, **({"graph_id": graph_id} if graph_id else {})}
    stored = await encrypted({"metadata": whole}, "thread", ["metadata"])
    return json_text({**stored["metadata"], MARK: mark})


async def _show(tx: Transaction, identity: UUID, graph_id: str) -> bool:
    """Set what the thread's row shows of its state, as its graph reads it: a pause is one from now on.

    Returns:
        Whether a node is next, and nothing is asked.
    """
    config = {"configurable": {"thread_id": str(identity), "checkpoint_ns": ""}}
    try:
        async with open_graph(graph_id, {"config": {}}, config, "threads.read", as_json=True) as (
            graph,
            saver,
        ):
            saver.work_in(tx)
            state = await graph.aget_state(config)
        await set_thread_status(tx, identity, as_checkpoint(state), None)
    except (psycopg.Error, HTTPException):
        raise
    except Exception as error:
        raise NotTakenError(f"the graph {graph_id} cannot read its state: {error!r}") from error
    return bool(state.next) and not any(task.interrupts for task in state.tasks)
