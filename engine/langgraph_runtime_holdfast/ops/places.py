"""Where runs are added: an assistant and a thread, as they were last seen.

A process remembers the assistants that it has used and the threads that it has just made, so that most runs
are added without reading either first. It never has to be told of a change: what was seen goes with its
version, and `add_run` refuses what does not hold any more, upon which it is read anew.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from langgraph_runtime_holdfast.database import Handle, Row
from langgraph_runtime_holdfast.ops.encryption import decrypted, using_custom_encryption

V = TypeVar("V")
Json = dict[str, Any]

_PLACE: Final = """
SELECT assistant.assistant_id, assistant.graph_id, assistant.config, assistant.context, assistant.metadata,
       assistant.xmin::text AS assistant_version,
       thread.thread_id IS NOT NULL AS has_thread, thread.status AS thread_status,
       thread.metadata AS thread_metadata, thread.config AS thread_config,
       thread_content_v2(metadata => thread.metadata, config => thread.config) AS thread_version
FROM assistant LEFT JOIN thread ON thread.thread_id = %(thread_id)s
WHERE assistant.assistant_id = %(assistant_id)s
"""
_ASSISTANT: Final = ("assistant_id", "graph_id", "config", "context", "metadata")
_MOST_REMEMBERED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A row, not encrypted, with the version that it had: an assistant's xmin, a thread's content."""

    row: Json
    version: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is to be added."""

    assistant: Seen
    thread: Seen | None


class _Remembered(OrderedDict[UUID, V], Generic[V]):
    """The newest of what was put into it."""

    def remember(self, key: UUID, value: V) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > _MOST_REMEMBERED:
            self.popitem(last=False)


_assistants: _Remembered[Seen] = _Remembered()
_new_threads: _Remembered[Seen] = _Remembered()


def remember_new_thread(thread: Row, version: str) -> None:
    """Keep a thread that was just made, for its first run."""
    if not using_custom_encryption():
        seen = {name: thread[name] for name in ("status", "metadata", "config")}
        _new_threads.remember(thread["thread_id"], Seen(seen, version))


async def likely_place(
    conn: Handle, assistant_id: UUID, thread_id: UUID | None, *, is_new_thread: bool
) -> Place | None:
    """The assistant and the thread, if it is there, as last seen, or read now; None without the assistant.

    Args:
        conn: The database.
        assistant_id: Which assistant.
        thread_id: Which thread; None for one that is yet to be made.
        is_new_thread: The id was chosen for this run.
    """
    assistant = _assistants.get(assistant_id)
    # A thread's first run changes it.
    thread = _new_threads.pop(thread_id, None) if thread_id is not None else None
    if assistant is not None and (thread is not None or thread_id is None or is_new_thread):
        return Place(assistant, thread)
    return await find_place(conn, assistant_id, thread_id)


async def find_place(conn: Handle, assistant_id: UUID, thread_id: UUID | None) -> Place | None:
    """Read the assistant and, if it is there, the thread; None without the assistant."""
    where = {"assistant_id": assistant_id, "thread_id": thread_id}
    row = await conn.fetch_one(_PLACE, where, often=True)
    if row is None:
        _assistants.pop(assistant_id, None)
        return None
    assistant = Seen(
        await decrypted(
            {name: row[name] for name in _ASSISTANT}, "assistant", ["metadata", "config", "context"]
        ),
        row["assistant_version"],
    )
    if not using_custom_encryption():
        _assistants.remember(assistant_id, assistant)
    if not row["has_thread"]:
        return Place(assistant, None)
    thread = {name: row[f"thread_{name}"] for name in ("status", "metadata", "config")}
    return Place(
        assistant, Seen(await decrypted(thread, "thread", ["metadata", "config"]), row["thread_version"])
    )
