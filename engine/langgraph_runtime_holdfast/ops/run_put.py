"""Creating a run: one transaction over its assistant, its thread, the cron that fires it, and the run.

The run's configuration is what the assistant, the thread and the request say, the later ones first. A
thread's row is locked while a run is added to it, so that runs of a thread are added one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

import psycopg
import structlog
from psycopg import Rollback

from langgraph_runtime_holdfast.database import DatabaseAwayError, Handle, Row
from langgraph_runtime_holdfast.limits import check_size
from langgraph_runtime_holdfast.ops import run_hub
from langgraph_runtime_holdfast.ops.crons import FIRING, Firing, advance, put_off
from langgraph_runtime_holdfast.ops.encryption import encrypted
from langgraph_runtime_holdfast.ops.filters import allows
from langgraph_runtime_holdfast.ops.places import Place, find_place
from langgraph_runtime_holdfast.ops.run_queue import RUN_FIELDS
from langgraph_runtime_holdfast.ops.signals import announce_run
from langgraph_runtime_holdfast.ops.statement import json_text
from langgraph_runtime_holdfast.ops.thread_ttl import TimeToLive, default_time_to_live
from langgraph_runtime_holdfast.retry import TRANSIENT, create_under_one_id

logger = structlog.stdlib.get_logger(__name__)

Json = dict[str, Any]

_RUN: Final = f"SELECT {', '.join(RUN_FIELDS)} FROM run_shown WHERE run_id = %(run_id)s"  # noqa: S608 - constants
_IN_FLIGHT: Final = """
SELECT run_id FROM run_inflight WHERE thread_id = %(thread_id)s AND run_id <> %(run_id)s
ORDER BY created_at, run_id
"""
_ADD: Final = """
SELECT * FROM add_run_v3(
    added => %(run_id)s, its_thread => %(thread_id)s, seen => %(seen)s, seen_busy => %(seen_busy)s,
    its_assistant => %(assistant_id)s, assistant_seen => %(assistant_seen)s, run_status => %(status)s,
    run_metadata => %(metadata)s::jsonb, run_kwargs => %(kwargs)s::json, strategy => %(multitask_strategy)s,
    session_name => %(langsmith_session_name)s, after_seconds => %(after_seconds)s,
    its_listener => %(listener)s, reject_if_inflight => %(reject_if_inflight)s,
    new_metadata => %(new_metadata)s::jsonb, new_config => %(new_config)s::jsonb,
    minutes => %(minutes)s, ttl => %(ttl_strategy)s
)
"""
_ENDS_OTHERS: Final = ("interrupt", "rollback")
_ASSISTANT_GONE: Final = "HF002"
_ASSISTANT_CHANGED: Final = "HF003"


@dataclass(frozen=True, slots=True)
class NewRun:
    """What is asked for, as the auth handlers have left it; nothing of it is encrypted."""

    run_id: UUID
    thread_id: UUID
    may_create_thread: bool
    place: Place
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
    def assistant(self) -> Row:
        """Who runs."""
        return self.place.assistant.row

    @property
    def temporary(self) -> bool:
        """The thread is deleted with the run."""
        return bool(self.kwargs.get("temporary"))


async def put_run(conn: Handle, new: NewRun) -> list[Row]:
    """Insert a run, once, however often the connection dies meanwhile.

    Returns:
        The new run, then those of its thread that wait or run if its strategy is to end them; only one that
        does if the run was refused because of it; nothing if the thread or assistant is not there (for this
        caller), or the cron has fired.

    Raises:
        DatabaseAwayError: Postgres did not answer; the run may or may not be there.
    """
    tried = False

    async def create() -> list[Row]:
        nonlocal tried
        is_repetition, tried = tried, True
        if is_repetition:
            return await _add_unless_there(conn, new)
        return await _add(conn, new)

    try:
        rows = await create_under_one_id(create)
    except _NothingToDo:
        return []
    except TRANSIENT as error:
        put_off()
        raise DatabaseAwayError(f"The run could not be created: {error}") from error
    if rows and rows[0]["run_id"] == new.run_id:
        run_hub.created(new.run_id, new.kwargs)
        announce_run(new.thread_id, new.run_id, after_seconds=new.after_seconds, temporary=new.temporary)
    return rows


class _NothingToDo(Exception):  # noqa: N818 - no error
    """Rolls the transaction back."""


async def _add_unless_there(conn: Handle, new: NewRun) -> list[Row]:
    """Add a run that an earlier attempt may have added, or may be about to: its answer was lost."""
    while (made := await conn.fetch_one(_RUN, {"run_id": new.run_id})) is None:
        try:
            return await _add(conn, new, is_repetition=True)
        except (psycopg.errors.UniqueViolation, _StaleError):
            # It came between the look and this attempt, most likely; the next look shows it.
            place = await find_place(conn, new.assistant["assistant_id"], new.thread_id)
            if place is None:
                raise _NothingToDo from None
            new = replace(new, place=place)
        except _NothingToDo:
            # So it may have done here too: a cron that it has advanced is not due any more.
            if await conn.fetch_one(_RUN, {"run_id": new.run_id}) is None:
                raise
    return [made, *await _others(conn, new)]


class _StaleError(Exception):
    """The thread or the assistant has changed."""


async def _add(conn: Handle, new: NewRun, *, is_repetition: bool = False) -> list[Row]:
    firing = FIRING.get()
    while True:
        row = await _row(new)
        try:
            if firing is None:
                added = await conn.fetch(_ADD, row, often=True)
            else:
                added = await _fire(conn, firing, row)
        except psycopg.DatabaseError as error:
            if error.sqlstate == _ASSISTANT_GONE:
                raise _NothingToDo from None
            if error.sqlstate != _ASSISTANT_CHANGED:
                raise
            added = [{"is_stale": True}]
        if not added[0]["is_stale"]:
            return [{name: value for name, value in each.items() if name != "is_stale"} for each in added]
        # Another request was quicker with this thread, or what was remembered does not hold any more.
        if is_repetition:
            raise _StaleError
        place = await find_place(conn, new.assistant["assistant_id"], new.thread_id)
        if place is None:
            raise _NothingToDo
        new = replace(new, place=place)


async def _fire(conn: Handle, firing: Firing, row: Json) -> list[Row]:
    """Add a cron's run, together with the cron's next date."""
    added: list[Row] = []
    # psycopg's own way to leave a transaction without committing it.
    async with conn.transaction() as tx:
        if not await advance(tx, firing):
            raise _NothingToDo
        added = await tx.fetch(_ADD, row)
        if added[0]["is_stale"]:
            raise Rollback
    return added


async def _others(conn: Handle, new: NewRun) -> list[Row]:
    if new.multitask_strategy not in _ENDS_OTHERS:
        return []
    return await conn.fetch(_IN_FLIGHT, {"thread_id": new.thread_id, "run_id": new.run_id})


async def _row(new: NewRun) -> Json:
    """What `_ADD` takes."""
    seen = new.place.thread
    # A copy, because the row is changed for a run that occupies the thread.
    thread = dict(seen.row) if seen is not None else None
    if thread is None:
        if not new.may_create_thread:
            raise _NothingToDo
        thread_row = await _new_thread(new)
    elif allows(thread["metadata"], new.thread_filters):
        thread_row = await _occupied(new, thread)
    else:
        raise _NothingToDo
    return {
        **await _run_row(new, thread),
        **thread_row,
        "seen": seen.version if seen is not None else None,
        "assistant_seen": new.place.assistant.version,
        "reject_if_inflight": new.reject_if_inflight,
    }


async def _new_thread(new: NewRun) -> Json:
    config = _config(new.kwargs)
    assistant_config = new.assistant["config"]
    metadata = {**_stamp(new), **(config.get("metadata") or {}), **new.metadata}
    new_config = {**assistant_config, **config, "configurable": {**_configurable(assistant_config)}}
    stored = await encrypted({"metadata": metadata, "config": new_config}, "thread", ["metadata", "config"])
    ttl = TimeToLive(None, None) if new.temporary else default_time_to_live()
    return {
        "seen_busy": None,
        "new_metadata": json_text(stored["metadata"]),
        "new_config": json_text(stored["config"]),
        "minutes": ttl.minutes,
        "ttl_strategy": ttl.strategy,
    }


async def _occupied(new: NewRun, thread: Json) -> Json:
    """Have an idle thread say what it works on from now on; changes `thread` as well.

    Mostly it says so already. Then nothing is written, and it does not matter whether the thread is idle.
    """
    row = {"seen_busy": None, "new_metadata": None, "new_config": None, "minutes": None, "ttl_strategy": None}
    config, assistant_config = _config(new.kwargs), new.assistant["config"]
    configurable = {**_configurable(assistant_config), **_configurable(thread["config"])}
    metadata = {**thread["metadata"], **_stamp(new)}
    thread_config = {**assistant_config, **thread["config"], **config, "configurable": configurable}
    if metadata == thread["metadata"] and thread_config == thread["config"]:
        return row
    if thread["status"] == "busy":
        return {**row, "seen_busy": True}
    thread["metadata"], thread["config"] = metadata, thread_config
    stored = await encrypted(thread, "thread", ["metadata", "config"])
    written = {"new_metadata": json_text(stored["metadata"]), "new_config": json_text(stored["config"])}
    return {**row, "seen_busy": False, **written}


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
    kwargs_text = json_text(kwargs)
    check_size("The run's input and configuration", len(kwargs_text))
    return {
        "run_id": new.run_id,
        "thread_id": new.thread_id,
        "assistant_id": assistant["assistant_id"],
        "status": new.status,
        "metadata": json_text(stored["metadata"]),
        "kwargs": kwargs_text,
        "multitask_strategy": new.multitask_strategy,
        "langsmith_session_name": new.langsmith_session_name,
        "after_seconds": new.after_seconds,
        "listener": run_hub.expected_by(new.run_id),
    }


def _stamp(new: NewRun) -> Json:
    return {"graph_id": new.assistant["graph_id"], "assistant_id": str(new.assistant["assistant_id"])}


def _config(kwargs: Json) -> Json:
    return kwargs.get("config") or {}


def _configurable(config: Mapping[str, Any]) -> Json:
    return config.get("configurable") or {}
