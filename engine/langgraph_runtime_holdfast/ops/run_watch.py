"""Tells who listens to a run that the database has its end, in case the feed does not.

All listeners of an event loop share one statement a poll, however many they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from langgraph_runtime_holdfast.database import connect
from langgraph_runtime_holdfast.feed import Entry
from langgraph_runtime_holdfast.settings import settings

logger = structlog.stdlib.get_logger(__name__)

ENDED: Final = Entry(b"", b"ended", b"")
"""Put into a listener's queue, once, when its run is neither pending nor running any more."""
_GOING_ON: Final = "SELECT run_id FROM run_inflight WHERE run_id = ANY(%(ids)s)"

Queue = asyncio.Queue[Entry]


class RunWatch:
    """The listeners of one event loop."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._queues: dict[UUID, set[Queue]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def watch(self, run_id: UUID, queue: Queue) -> Iterator[None]:
        """Put ENDED into the queue when the run has ended."""
        self._queues.setdefault(run_id, set()).add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            queues = self._queues.get(run_id, set())
            queues.discard(queue)
            if not queues:
                self._queues.pop(run_id, None)

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(settings().poll_seconds)
            if not self._queues:
                return
            try:
                await self._look()
            except (psycopg.Error, PoolTimeout, OSError) as error:
                await logger.adebug("The runs' ends cannot be read now", error=str(error))

    async def _look(self) -> None:
        asked = list(self._queues)
        async with connect() as handle:
            rows = await handle.fetch(_GOING_ON, {"ids": asked}, often=True)
        for run_id in set(asked) - {row["run_id"] for row in rows}:
            for queue in self._queues.pop(run_id, ()):
                queue.put_nowait(ENDED)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, RunWatch] = WeakKeyDictionary()


def run_watch() -> RunWatch:
    """This loop's watch."""
    return _watches.setdefault(asyncio.get_running_loop(), RunWatch())
