"""Creating a run: one transaction over its assistant, its thread, the cron that fires it, and the run.

The run's configuration is what the assistant, the thread and the request say, the later ones first. A
thread's row is locked while a run is added to it, so that runs of a thread are added one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog

from langgraph_runtime_holdfast.database import DatabaseAwayError, Handle, Row, Transaction
from langgraph_runtime_holdfast.ops.crons import FIRING, advance
from langgraph_runtime_holdfast.ops.encryption import decrypted, encrypted
from langgraph_runtime_holdfast.ops.filters import allows
from langgraph_runtime_holdfast.ops.run_queue import RUN_COLUMNS
from langgraph_runtime_holdfast.ops.signals import announce_run
from langgraph_runtime_holdfast.ops.statement import json_text
from langgraph_runtime_holdfast.ops.thread_ttl import MOVE_EXPIRY, TimeToLive, default_time_to_live
from langgraph_runtime_holdfast.retry import TRANSIENT, create_under_one_id

logger = structlog.stdlib.get_logger(__name__)

Json = dict[str, Any]

_RUN: Final = f"SELECT {RUN_COLUMNS} FROM run WHERE run_id = %(run_id)s"  # noqa: S608 - constants
_THREAD: Final = """
SELECT thread_id, status, metadata, config FROM thread WHERE thread_id = %(thread_id)s FOR NO KEY UPDATE
"""
_INSERT_THREAD: Final = """
INSERT INTO thread (thread_id, status, metadata, config, ttl_minutes, ttl_strategy, expires_at)
VALUES (%(thread_id)s, 'busy', %(metadata)s::jsonb, %(config)s::jsonb, %(minutes)s::float8, %(strategy)s,
        now() + %(minutes)s::float8 * interval '1 minute')
ON CONFLICT (thread_id) DO NOTHING
"""
_UPDATE_THREAD: Final = f"""
UPDATE thread SET status = 'busy', metadata = %(metadata)s::jsonb, config = %(config)s::jsonb,
    updated_at = now(), {MOVE_EXPIRY}
WHERE thread_id = %(thread_id)s
"""  # noqa: S608 - constants
# Without `kwargs`: nobody reads them, and a long queue has much of them.
_INFLIGHT: Final = f"""
SELECT {RUN_COLUMNS.replace("run.kwargs, ", "")} FROM run
WHERE thread_id = %(thread_id)s AND status IN ('pending', 'running')
ORDER BY created_at, run_id
"""  # noqa: S608 - constants
# The clock, not the transaction's beginning: runs of a thread are in the order in which they got its lock.
_INSERT_RUN: Final = f"""
INSERT INTO run (run_id, thread_id, assistant_id, status, metadata, kwargs, multitask_strategy,
                 langsmith_session_name, created_at, available_at, updated_at)
SELECT %(run_id)s, %(thread_id)s, assistant_id, %(status)s, %(metadata)s::jsonb, %(kwargs)s::json,
       %(multitask_strategy)s, %(langsmith_session_name)s, due, due, clock_timestamp()
FROM (SELECT clock_timestamp() + make_interval(secs => %(after_seconds)s) AS due) AS moment,
     (SELECT assistant_id FROM assistant WHERE assistant_id = %(assistant_id)s FOR KEY SHARE) AS assistant
ON CONFLICT (run_id) DO NOTHING
RETURNING {RUN_COLUMNS}
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class NewRun:
    """What is asked for, as the auth handlers have left it; nothing of it is encrypted."""

    run_id: UUID
    thread_id: UUID
    may_create_thread: bool
    assistant: Row
    kwargs: Json
    metadata: Json
    user_id: str | None
    status: str
    multitask_strategy: str
    reject_if_inflight: bool
    after_seconds: float
    langsmith_session_name: str | None
    thread_filters: Mapping[str, Any] | None

    @property
    def temporary(self) -> bool:
        """The thread is deleted with the run."""
        return bool(self.kwargs.get("temporary"))


async def put_run(conn: Handle, new: NewRun) -> list[Row]:
    """Insert a run, once, however often the connection dies meanwhile.

    Returns:
        The new run, then those of its thread that wait or run; only these if the run was refused because of
        them; nothing if the thread or assistant is not there (for this caller), or the cron has fired.

    Raises:
        DatabaseAwayError: Postgres did not answer; the run may or may not be there.
    """
    tried = False

    async def create() -> list[Row]:
        nonlocal tried
        is_repetition, tried = tried, True
        async with conn.transaction() as tx:
            if is_repetition and (made := await tx.fetch_one(_RUN, {"run_id": new.run_id})) is not None:
                return [made, *await _others(tx, new)]
            return await _create(tx, new)

    try:
        rows = await create_under_one_id(create)
    except _NothingToDo as nothing:
        return nothing.rows
    except TRANSIENT as error:
        raise DatabaseAwayError(f"The run could not be created: {error}") from error
    announce_run(new.thread_id, new.run_id, after_seconds=new.after_seconds, temporary=new.temporary)
    return rows


class _NothingToDo(Exception):  # noqa: N818 - no error
    """Rolls the transaction back."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__()
        self.rows = rows


async def _create(tx: Transaction, new: NewRun) -> list[Row]:
    thread, is_new = await _thread(tx, new)
    inflight = [] if is_new else await tx.fetch(_INFLIGHT, {"thread_id": new.thread_id})
    if new.reject_if_inflight and inflight:
        raise _NothingToDo(inflight)
    if not is_new:
        await _occupy(tx, new, thread)
    firing = FIRING.get()
    if firing is not None and not await advance(tx, firing):
        raise _NothingToDo([])
    run = await tx.fetch_one(_INSERT_RUN, await _run_row(new, None if is_new else thread))
    if run is None:
        # The assistant was deleted in this moment.
        raise _NothingToDo([])
    return [run, *inflight]


async def _others(tx: Transaction, new: NewRun) -> list[Row]:
    rows = await tx.fetch(_INFLIGHT, {"thread_id": new.thread_id})
    return [row for row in rows if row["run_id"] != new.run_id]


async def _thread(tx: Transaction, new: NewRun) -> tuple[Json, bool]:
    """Lock the thread's row, or make it; returns it, and whether it is new."""
    where = {"thread_id": new.thread_id}
    thread = None if new.temporary else await tx.fetch_one(_THREAD, where)
    if thread is None and new.may_create_thread:
        row = await _new_thread(new)
        if await tx.execute(_INSERT_THREAD, row):
            return row, True
    thread = thread or await tx.fetch_one(_THREAD, where)
    if thread is None:
        raise _NothingToDo([])
    thread = await decrypted(thread, "thread", ["metadata", "config"])
    if not allows(thread["metadata"], new.thread_filters):
        raise _NothingToDo([])
    return thread, False


async def _new_thread(new: NewRun) -> Json:
    config = _config(new.kwargs)
    assistant_config = new.assistant["config"]
    metadata = {**_stamp(new), **(config.get("metadata") or {}), **new.metadata}
    stored = await encrypted({"metadata": metadata}, "thread", ["metadata"])
    ttl = TimeToLive(None, None) if new.temporary else default_time_to_live()
    return {
        "thread_id": new.thread_id,
        "metadata": json_text(stored["metadata"]),
        "config": json_text(
            {**assistant_config, **config, "configurable": {**_configurable(assistant_config)}}
        ),
        "minutes": ttl.minutes,
        "strategy": ttl.strategy,
    }


async def _occupy(tx: Transaction, new: NewRun, thread: Json) -> None:
    """Have an idle thread say what it works on from now on; changes `thread` as well."""
    if thread["status"] == "busy":
        return
    config, assistant_config = _config(new.kwargs), new.assistant["config"]
    configurable = {**_configurable(assistant_config), **_configurable(thread["config"])}
    thread["metadata"] = {**thread["metadata"], **_stamp(new)}
    thread["config"] = {**assistant_config, **thread["config"], **config, "configurable": configurable}
    stored = await encrypted({"metadata": thread["metadata"]}, "thread", ["metadata"])
    await tx.execute(
        _UPDATE_THREAD,
        {
            "thread_id": new.thread_id,
            "metadata": json_text(stored["metadata"]),
            "config": json_text(thread["config"]),
        },
    )


async def _run_row(new: NewRun, thread: Json | None) -> Json:
    """The row to insert; `thread` is the one that was there before."""
    config, assistant = _config(new.kwargs), new.assistant
    thread_config = thread["config"] if thread else {}
    configurable = {
        **_configurable(assistant["config"]),
        **_configurable(thread_config),
        **_configurable(config),
        "run_id": str(new.run_id),
        "thread_id": str(new.thread_id),
        "graph_id": assistant["graph_id"],
        "assistant_id": str(assistant["assistant_id"]),
        "user_id": _configurable(config).get("user_id")
        or _configurable(thread_config).get("user_id")
        or _configurable(assistant["config"]).get("user_id")
        or new.user_id,
    }
    metadata = {
        **assistant["metadata"],
        **(thread["metadata"] if thread else {}),
        **(config.get("metadata") or {}),
        **new.metadata,
        # Last, so that nobody can claim another assistant.
        "assistant_id": str(assistant["assistant_id"]),
    }
    kwargs = {
        **new.kwargs,
        "config": {**assistant["config"], **config, "configurable": configurable, "metadata": metadata},
        "context": {**(assistant.get("context") or {}), **(new.kwargs.get("context") or {})},
    }
    kwargs = await encrypted(kwargs, "run", ["input", "config", "context", "command"])
    stored = await encrypted({"metadata": metadata}, "run", ["metadata"])
    return {
        "run_id": new.run_id,
        "thread_id": new.thread_id,
        "assistant_id": assistant["assistant_id"],
        "status": new.status,
        "metadata": json_text(stored["metadata"]),
        "kwargs": json_text(kwargs),
        "multitask_strategy": new.multitask_strategy,
        "langsmith_session_name": new.langsmith_session_name,
        "after_seconds": new.after_seconds,
    }


def _stamp(new: NewRun) -> Json:
    return {"graph_id": new.assistant["graph_id"], "assistant_id": str(new.assistant["assistant_id"])}


def _config(kwargs: Json) -> Json:
    return kwargs.get("config") or {}


def _configurable(config: Mapping[str, Any]) -> Json:
    return config.get("configurable") or {}
