"""The state of a thread: read, updated and listed through its graph, whose checkpoints are its truth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, cast

from langgraph.types import StateSnapshot
from langgraph_sdk import Auth
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.database import DatabaseAwayError, Handle, Row
from langgraph_runtime_holdfast.ops.authenticated import Authenticated
from langgraph_runtime_holdfast.ops.encryption import decrypted
from langgraph_runtime_holdfast.ops.filters import allows
from langgraph_runtime_holdfast.ops.statement import as_uuid
from langgraph_runtime_holdfast.ops.thread_lock import quiet_thread
from langgraph_runtime_holdfast.ops.thread_rows import find_thread, not_found
from langgraph_runtime_holdfast.ops.thread_status import set_thread_status
from langgraph_runtime_holdfast.ops.thread_stream import ThreadStream
from langgraph_runtime_holdfast.retry import TRANSIENT, must_not_repeat

if TYPE_CHECKING:
    from langgraph_runtime_holdfast.checkpoint import Saver

Context = Auth.types.BaseAuthContext
Config = dict[str, Any]

MOST_STATES: Final = 10_000
_NEEDED: Final = ("metadata", "config")
_GRAPH_OF_FIRST_RUN: Final = """
SELECT kwargs->'config'->'configurable'->>'graph_id' AS graph_id
FROM run WHERE thread_id = %(thread_id)s ORDER BY created_at LIMIT 1
"""
_LONGEST_PAUSE_SECONDS: Final = 30.0
"""Between two statements of an update, where the graph's own reducers and branches run."""


class ThreadState(Authenticated):
    """What the API calls for the state of threads."""

    resource: ClassVar[Literal["threads"]] = "threads"

    @staticmethod
    async def get(
        conn: Handle, config: Config, subgraphs: bool = False, ctx: Context | None = None
    ) -> StateSnapshot:
        """Read the state: the latest, or the one of the checkpoint that the config names.

        Raises:
            HTTPException: 404, there is no such thread, or not for this caller.
        """
        thread = await _readable(conn, config, ctx)
        graph_id = await _graph_id(conn, thread)
        if not graph_id:
            return StateSnapshot(
                values={},
                next=(),
                config=None,  # type: ignore[arg-type]
                metadata=None,
                created_at=None,
                parent_config=None,
                tasks=(),
                interrupts=(),
            )
        async with open_graph(graph_id, thread, config, "threads.read", as_json=True) as (graph, _):
            return _shown(await graph.aget_state(config, subgraphs=subgraphs))

    @staticmethod
    async def post(
        conn: Handle,
        config: Config,
        values: Sequence[dict[str, Any]] | dict[str, Any] | None,
        as_node: str | None = None,
        ctx: Context | None = None,
    ) -> dict[str, Any]:
        """Update the state as a node would, in a new checkpoint.

        Raises:
            ThreadBusyError: A run works on it or waits to; the API answers 409.
            HTTPException: 404, there is no such thread; 403, it is not for this caller to change; 400, the
                thread has no graph yet.
        """
        thread = await _changeable(conn, config, ctx)
        graph_id = await _needed_graph_id(conn, thread)
        configurable = config["configurable"]
        configurable.setdefault("graph_id", graph_id)
        target = {**config, "configurable": {"checkpoint_ns": "", **configurable}}

        def update(graph: Any) -> Awaitable[Any]:
            changing: Awaitable[Any] = graph.aupdate_state(target, values, as_node=as_node)
            return changing

        made = await _change(conn, graph_id, thread, config, update)
        checkpoint = made["configurable"]
        # The last two are what clients used before there was `checkpoint`.
        return {
            "checkpoint": checkpoint,
            "configurable": checkpoint,
            "checkpoint_id": checkpoint["checkpoint_id"],
        }

    @staticmethod
    async def bulk(
        conn: Handle,
        *,
        config: Config,
        supersteps: Sequence[dict[str, Any]],
        ctx: Context | None = None,
    ) -> dict[str, Any]:
        """Write a history of updates, a checkpoint for each superstep.

        Raises:
            ThreadBusyError, HTTPException: As for `post`.
        """
        from langgraph.types import StateUpdate
        from langgraph_api.command import map_cmd

        def written(update: dict[str, Any]) -> Any:
            command = update.get("command")
            return map_cmd(command) if command else update.get("values")

        thread = await _changeable(conn, config, ctx)
        graph_id = await _needed_graph_id(conn, thread)
        config["configurable"].setdefault("graph_id", graph_id)
        config["configurable"].setdefault("checkpoint_ns", "")
        steps = [
            [StateUpdate(written(update), update.get("as_node")) for update in step.get("updates", ())]
            for step in supersteps
        ]

        def update(graph: Any) -> Awaitable[Any]:
            changing: Awaitable[Any] = graph.abulk_update_state(config, steps)
            return changing

        made = await _change(conn, graph_id, thread, config, update)
        return {"checkpoint": made["configurable"]}

    @staticmethod
    async def list(
        conn: Handle,
        *,
        config: Config,
        limit: int = 1,
        before: str | dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        ctx: Context | None = None,
    ) -> list[StateSnapshot]:
        """Read the states of the past, the newest first.

        Raises:
            HTTPException: 404, there is no such thread; 422, the limit is out of range.
        """
        if not 0 <= limit <= MOST_STATES:
            raise HTTPException(status_code=422, detail=f"Invalid limit: must be between 0 and {MOST_STATES}")
        thread = await _readable(conn, config, ctx)
        graph_id = await _graph_id(conn, thread)
        if not graph_id:
            return []
        if isinstance(before, str):
            before = {"configurable": {"checkpoint_id": before}}
        if before is not None:
            before = before if "configurable" in before else {"configurable": before}
        async with open_graph(graph_id, thread, config, "threads.read", as_json=True) as (graph, _):
            history = graph.aget_state_history(config, limit=limit, filter=metadata, before=before)
            return [snapshot async for snapshot in history]


async def _readable(conn: Handle, config: Config, ctx: Context | None) -> Row:
    thread_id = as_uuid(config["configurable"]["thread_id"], "thread ID")
    filters = await ThreadState.handle_event(ctx, "read", Auth.types.ThreadsRead(thread_id=thread_id))
    thread = await find_thread(conn, thread_id, filters, _NEEDED)
    if thread is None:
        raise not_found(thread_id)
    return await decrypted(thread, "thread", ["config"])


async def _changeable(conn: Handle, config: Config, ctx: Context | None) -> Row:
    thread_id = as_uuid(config["configurable"]["thread_id"], "thread ID")
    filters = await ThreadState.handle_event(ctx, "update", Auth.types.ThreadsUpdate(thread_id=thread_id))
    thread = await _readable(conn, config, ctx)
    if not allows(thread["metadata"], filters):
        raise HTTPException(status_code=403, detail="Forbidden")
    return thread


async def _graph_id(conn: Handle, thread: Row) -> str | None:
    if found := thread["metadata"].get("graph_id"):
        return str(found)
    run = await conn.fetch_one(_GRAPH_OF_FIRST_RUN, {"thread_id": thread["thread_id"]})
    return run["graph_id"] if run else None


async def _needed_graph_id(conn: Handle, thread: Row) -> str:
    graph_id = await _graph_id(conn, thread)
    if not graph_id:
        raise HTTPException(
            status_code=400,
            detail=f"Thread '{thread['thread_id']}' has no assigned graph ID, because it has had no run yet. "
            "Create a run on it, or set 'graph_id' in its metadata, and try again.",
        )
    return graph_id


async def _change(
    conn: Handle, graph_id: str, thread: Row, config: Config, update: Callable[[Any], Awaitable[Any]]
) -> dict[str, Any]:
    """Change the state through its graph, and with it the thread's row; then tell the thread's listeners.

    Nothing is repeated: a list would get its new items twice.

    Raises:
        ThreadBusyError, HTTPException: As for `ThreadState.post`.
        DatabaseAwayError: The connection died, or a statement took too long; the caller has to look whether
            the update is there.
    """
    from langgraph_api.serde import json_dumpb
    from langgraph_api.state import state_snapshot_to_thread_state

    thread_id = thread["thread_id"]
    # The graphs first: a factory may take long, and the thread is locked later.
    async with (
        open_graph(graph_id, thread, config, "threads.update") as (graph, saver),
        open_graph(graph_id, thread, config, "threads.read", as_json=True) as (reader, its_saver),
    ):
        must_not_repeat()
        try:
            async with quiet_thread(conn, thread_id, pause_seconds=_LONGEST_PAUSE_SECONDS) as tx:
                saver.work_in(tx)
                its_saver.work_in(tx)
                made: dict[str, Any] = await update(graph)
                state = await reader.aget_state(config)
                await set_thread_status(tx, thread_id, as_checkpoint(state), None)
        except TRANSIENT as error:
            raise DatabaseAwayError(f"The state may not have been updated: {error}") from error
    told = {"state": state_snapshot_to_thread_state(_shown(state)), "thread_id": str(thread_id)}
    await ThreadStream.publish(thread_id, "state_update", json_dumpb(told))
    return made


def as_checkpoint(state: StateSnapshot) -> dict[str, Any]:
    """A state as a thread's row is made of it."""
    return {
        "next": list(state.next),
        "values": state.values,
        "tasks": [{"id": task.id, "interrupts": list(task.interrupts)} for task in state.tasks],
    }


def _shown(state: StateSnapshot) -> StateSnapshot:
    if state.metadata is not None and state.metadata.get("checkpoint_ns") == "":
        cast(dict[str, Any], state.metadata).pop("checkpoint_ns")
    return state


@asynccontextmanager
async def open_graph(
    graph_id: str, thread: Row, config: Config, access: str, *, as_json: bool = False
) -> AsyncIterator[tuple[Any, Saver]]:
    """Open the thread's graph with a saver of its own.

    Args:
        graph_id: Which graph of langgraph.json.
        thread: The thread's row, whose config the graph's factory gets too.
        config: What the caller asks about.
        access: Why, for the factory.
        as_json: Read messages and models as plain JSON, without importing the user's classes.
    """
    from langgraph.checkpoint.serde.jsonplus import _msgpack_ext_hook_to_json
    from langgraph_api.graph import get_graph
    from langgraph_api.store import get_store

    from langgraph_runtime_holdfast.checkpoint import Checkpointer

    kept = thread["config"] or {}
    merged = {**kept, "configurable": {**kept.get("configurable", {}), **config.get("configurable", {})}}
    saver = Checkpointer(unpack_hook=_msgpack_ext_hook_to_json if as_json else None)
    async with get_graph(
        graph_id, merged, checkpointer=saver, store=await get_store(), access_context=access
    ) as graph:
        yield graph, saver
