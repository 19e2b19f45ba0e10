"""The feed of a run's events in Valkey: what the worker writes, and readers of any process follow.

The last entry has the event `control`: its data is `done`. An entry `control` with the data `lost` before it
says that the events before it do not tell all: some were lost, or the run was deleted.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from langgraph_runtime_holdfast.feed import MAX_ENTRIES, Entry, add_to, append
from langgraph_runtime_holdfast.ops.hints import attempt
from langgraph_runtime_holdfast.ops.lease import current_lease
from langgraph_runtime_holdfast.ops.signals import keep_seconds
from langgraph_runtime_holdfast.valkey import key, valkey

CONTROL: Final = b"control"
DONE: Final = b"done"
LOST: Final = b"lost"

_WHILE_RUNNING_SECONDS: Final = 24 * 3600
# Who listens without resuming only needs what comes while they listen.
_MOST_LIVE: Final = 5_000
_NO_FEED: Final = -1


def run_feed(run_id: UUID | str) -> str:
    """The feed's name."""
    return key("run", run_id)


def is_done(entry: Entry) -> bool:
    """Whether this is the run's last entry."""
    return entry.event == CONTROL and entry.data == DONE


async def append_event(run_id: UUID, event: str, message: bytes, *, resumable: bool) -> None:
    """Add an event; one that Valkey does not take is counted as lost."""
    lease = current_lease()
    if lease is None or lease.run_id != run_id:
        await attempt(lambda: append(run_feed(run_id), event.encode(), message, keep_seconds=keep_seconds()))
        return
    if lease.is_lost:
        return
    if event == "error":
        message = lease.explained_event(message)
    if lease.temporary and (event in ("values", "error") or b"__interrupt__" in message):
        lease.last_state = (event, message)
    sent = await attempt(
        lambda: add_to(
            valkey(),
            run_feed(run_id),
            event.encode(),
            message,
            keep_seconds=_WHILE_RUNNING_SECONDS,
            most=MAX_ENTRIES if resumable else _MOST_LIVE,
        )
    )
    if sent is None:
        lease.events_lost = True
    else:
        lease.events_sent += 1


async def append_end(run_id: UUID, *, lost: bool = False) -> None:
    """Add the last entry, and let the feed go when resuming readers have had their time.

    Args:
        run_id: The run, whose end is in the database.
        lost: Events are missing; listeners must look into the database.
    """
    feed = run_feed(run_id)

    async def send() -> None:
        async with valkey().pipeline(transaction=False) as pipe:
            for data in (LOST, DONE) if lost else (DONE,):
                add_to(pipe, feed, CONTROL, data, keep_seconds=keep_seconds())
            await pipe.execute()

    await attempt(send)


async def count_events(run_id: UUID) -> int:
    """How many entries the feed has; -1 if Valkey does not say."""
    counted = await attempt(lambda: valkey().xlen(run_feed(run_id)))
    return _NO_FEED if counted is None else int(counted)
