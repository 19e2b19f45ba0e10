"""A run's events: what its worker tells, and where it goes.

Listeners of the same process get them at once (`run_hub`). Besides, they go into the run's feed in Valkey,
from which readers of any process follow, and into the inbox of the process that waits for the run, if that is
another one. Nobody waits for Valkey.

A feed ends with the event `control`, whose data is `done`. An entry `control` with the data `lost` before
it says that the events before it do not tell all: some were lost or too large, or the run was deleted.
"""

from __future__ import annotations

import sys
from typing import Final
from uuid import UUID

from langgraph_runtime_holdfast.event_seal import seal_event
from langgraph_runtime_holdfast.feed import MAX_ENTRIES, Entry, add_all_to
from langgraph_runtime_holdfast.limits import largest_event_bytes
from langgraph_runtime_holdfast.ops.lease import Lease, current_lease
from langgraph_runtime_holdfast.ops.outgoing import outgoing
from langgraph_runtime_holdfast.ops.run_hub import (
    CONTROL,
    DONE,
    KEEP_INBOX_SECONDS,
    LOST,
    hand_over,
    inbox,
    numbered,
)
from langgraph_runtime_holdfast.ops.signals import keep_seconds
from langgraph_runtime_holdfast.settings import WORKER_ID
from langgraph_runtime_holdfast.valkey import key

_WHILE_RUNNING_SECONDS: Final = 24 * 3600
# Who listens without resuming only needs what comes while they listen.
_MOST_LIVE: Final = 5_000
_MOST_CHECKED: Final = 1_000


def run_feed(run_id: UUID | str) -> str:
    """The feed's name."""
    return key("run", run_id)


def is_done(entry: Entry) -> bool:
    """Whether this is the run's last entry."""
    return entry.event == CONTROL and entry.data == DONE


async def append_event(run_id: UUID, event: str, message: bytes, *, resumable: bool) -> None:
    """Tell an event; one that Valkey does not take is noted as lost."""
    lease = current_lease()
    if lease is None or lease.run_id != run_id:
        hand_over(run_id, event.encode(), message)
        sealed = await seal_event(message)
        outgoing().append(run_feed(run_id), event.encode(), sealed, keep_seconds=keep_seconds())
        return
    if lease.is_lost:
        return
    if event == "error":
        message = lease.explained_event(message)
    if lease.temporary and (event in ("values", "error") or b"__interrupt__" in message):
        lease.last_state = (event, message)
    hand_over(run_id, event.encode(), message)
    if len(message) > largest_event_bytes():
        # Others would wait behind it, and it would push all else out; who listens elsewhere gets the result.
        lease.note_lost_events()
        return
    lease.events_told += 1
    sealed = await seal_event(message)
    outgoing().append(
        run_feed(run_id),
        event.encode(),
        sealed,
        keep_seconds=_WHILE_RUNNING_SECONDS,
        most=MAX_ENTRIES if resumable else _MOST_LIVE,
        if_lost=lease.note_lost_events,
    )
    _tell_listener(lease, event.encode(), sealed)
    await outgoing().wait_if_full()


def append_end(run_id: UUID, *, lost: bool = False) -> None:
    """Tell that a run, which no worker of this process works on, has ended; the database has its end.

    Args:
        run_id: The run.
        lost: Events are missing; listeners must look into the database.
    """
    feed = run_feed(run_id)
    for data in (LOST, DONE) if lost else (DONE,):
        hand_over(run_id, CONTROL, data)
        outgoing().append(feed, CONTROL, data, keep_seconds=keep_seconds())


def close_feed(lease: Lease) -> None:
    """Tell the end of the run that this process works on, which is in the database."""
    hand_over(lease.run_id, CONTROL, DONE)
    for data in (LOST, DONE) if lease.events_lost else (DONE,):
        _tell_listener(lease, CONTROL, data)
    feed = run_feed(lease.run_id)
    least = sys.maxsize if lease.events_lost else min(lease.events_told, _MOST_CHECKED)
    outgoing().send(
        lambda pipe: add_all_to(
            pipe,
            feed,
            [(CONTROL, DONE)],
            keep_seconds=keep_seconds(),
            least=least,
            if_fewer=(CONTROL, LOST),
        )
    )


def _tell_listener(lease: Lease, event: bytes, data: bytes) -> None:
    if lease.listener is None or lease.listener == WORKER_ID:
        return
    lease.events_sent += 1
    outgoing().append(
        inbox(lease.listener),
        numbered(lease.run_id, lease.events_sent, event),
        data,
        keep_seconds=KEEP_INBOX_SECONDS,
    )
