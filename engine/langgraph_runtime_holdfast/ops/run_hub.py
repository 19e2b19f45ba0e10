"""The shortest way of a run's events: from its worker to who waits for it, inside one process.

A request that creates a run and listens says so before the run is there. If this process executes the run,
its events are handed over without a detour. If another one does, that one sends them to this process's inbox,
a feed in Valkey; each comes with its number, so a gap is noticed and the database asked instead.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from langgraph_runtime_holdfast.feed import BEGINNING, MISSING, Entry, EntryQueue, follower
from langgraph_runtime_holdfast.settings import WORKER_ID
from langgraph_runtime_holdfast.valkey import key

CONTROL: Final = MISSING.event
DONE: Final = b"done"
LOST: Final = MISSING.data
KEEP_INBOX_SECONDS: Final = 60

Queue = asyncio.Queue[Entry]


class Listener:
    """One who waits for a run's events: they arrive in `queue`."""

    def __init__(self, run_id: UUID) -> None:
        """Expect a run; `forget` ends it."""
        self.run_id = run_id
        self.queue: Queue = EntryQueue()
        self.loop = asyncio.get_running_loop()
        self.is_creator = False
        """The run was created after this one began to listen: nothing has been missed."""
        self.resumable = False
        self.modes: Sequence[str] = ()
        self.is_remote = False
        """Another process has sent something."""
        self._received = 0

    def put(self, entry: Entry) -> None:
        """Give it an event, from any thread."""
        if _running_loop() is self.loop:
            self.queue.put_nowait(entry)
        else:
            self.loop.call_soon_threadsafe(self.queue.put_nowait, entry)

    def put_numbered(self, number: int, entry: Entry) -> None:
        """Give it an event of another process; an attempt's first event has number 1."""
        if number not in (1, self._received + 1):
            self.queue.put_nowait(MISSING)
        self._received = number
        self.is_remote = True
        self.queue.put_nowait(entry)

    def forget(self) -> None:
        """Listen no more."""
        with _lock:
            listeners = _listeners.get(self.run_id, [])
            if self in listeners:
                listeners.remove(self)
            if not listeners:
                _listeners.pop(self.run_id, None)


_listeners: dict[UUID, list[Listener]] = {}
_lock = threading.Lock()
_inbox_task: asyncio.Task[None] | None = None


def listen_to(run_id: UUID) -> Listener:
    """Begin to listen to a run, which may be one that is yet to be created."""
    listener = Listener(run_id)
    with _lock:
        _listeners.setdefault(run_id, []).append(listener)
    _read_inbox()
    return listener


def expected_by(run_id: UUID) -> str | None:
    """Who waits for a run that is being created: this process, or nobody."""
    return WORKER_ID if run_id in _listeners else None


def created(run_id: UUID, kwargs: dict[str, Any]) -> None:
    """Tell who waits for it that the run is there."""
    for listener in _of(run_id):
        listener.is_creator = True
        listener.resumable = bool(kwargs.get("resumable"))
        listener.modes = kwargs.get("stream_mode") or ()


def hand_over(run_id: UUID, event: bytes, data: bytes) -> None:
    """Give an event to who listens here; from any thread."""
    if listeners := _of(run_id):
        entry = Entry(b"", event, data)
        for listener in listeners:
            listener.put(entry)


def inbox(worker: str) -> str:
    """The feed of a process."""
    return key("inbox", worker)


def numbered(run_id: UUID, number: int, event: bytes) -> bytes:
    """What an inbox has as an entry's event."""
    return b"%s %d %s" % (str(run_id).encode(), number, event)


def _of(run_id: UUID) -> list[Listener]:
    with _lock:
        return list(_listeners.get(run_id, ()))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _read_inbox() -> None:
    global _inbox_task
    if _inbox_task is None or _inbox_task.done() or _inbox_task.get_loop() is not asyncio.get_running_loop():
        _inbox_task = asyncio.create_task(_hand_on())


async def _hand_on() -> None:
    async with follower().follow(inbox(WORKER_ID), BEGINNING) as reader:
        while True:
            entry = await reader.queue.get()
            if entry.event == CONTROL:  # of the feed itself; the numbers tell what is missing
                continue
            run_id, number, event = entry.event.split(b" ", 2)
            for listener in _of(UUID(run_id.decode())):
                listener.put_numbered(int(number), Entry(entry.id, event, entry.data))
