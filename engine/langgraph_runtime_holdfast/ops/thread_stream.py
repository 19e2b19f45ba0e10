"""The stream of a thread: its own events and those of all its runs, also of runs that begin later, anywhere.

A thread has a feed and so has each of its runs; new runs are announced in the thread's feed. Ids come from
one clock for all feeds, so the merged stream has one order, and a client resumes in it from any replica. The
table of runs is looked at now and then as well, because Valkey may have lost an announcement or a run's end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, Literal, Self, TypeVar
from uuid import UUID

import orjson
import structlog
from langgraph_sdk import Auth
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast import feed
from langgraph_runtime_holdfast.database import connect
from langgraph_runtime_holdfast.event_seal import open_event, seal_event
from langgraph_runtime_holdfast.limits import largest_event_bytes
from langgraph_runtime_holdfast.ops.authenticated import Authenticated
from langgraph_runtime_holdfast.ops.hints import attempt
from langgraph_runtime_holdfast.ops.run_feed import is_done, run_feed
from langgraph_runtime_holdfast.ops.run_hub import CONTROL
from langgraph_runtime_holdfast.ops.signals import RUN, keep_seconds
from langgraph_runtime_holdfast.ops.statement import as_uuid
from langgraph_runtime_holdfast.ops.thread_rows import find_thread
from langgraph_runtime_holdfast.retry import TRANSIENT
from langgraph_runtime_holdfast.settings import settings
from langgraph_runtime_holdfast.valkey import key

logger = structlog.stdlib.get_logger(__name__)

Context = Auth.types.BaseAuthContext
Event = tuple[bytes, bytes, bytes | None, str]
"""Its name, its data, its id, and the id of its run or thread."""
T = TypeVar("T")

_QUIET_POLLS: Final = 10
"""While Valkey is there, the table of runs is looked at once in so many polls."""
_HURRIED_LOOKS: Final = 10
"""After Valkey was away, so many looks follow at every poll: other processes notice later that it is back."""
_LOOKS_WITHOUT_END: Final = 2
"""After so many looks at a run that has ended, its end is not waited for any more."""
_RUNS: Final = """
SELECT run.run_id, run.status IN ('pending', 'running') AS in_flight
FROM thread LEFT JOIN run
  ON run.thread_id = thread.thread_id
  AND (run.status IN ('pending', 'running') OR run.updated_at > now() - make_interval(secs => %(seconds)s))
WHERE thread.thread_id = %(thread_id)s
"""


class ThreadStream(Authenticated):
    """What the API calls for the streams of threads."""

    resource: ClassVar[Literal["threads"]] = "threads"

    @staticmethod
    async def join(
        thread_id: UUID | str,
        *,
        last_event_id: str | None = None,
        stream_modes: Sequence[str],
        ctx: Context | None = None,
    ) -> AsyncGenerator[tuple[bytes, bytes, bytes | None], None]:
        """Follow a thread's events; see `join_event_streaming`."""
        events = ThreadStream.join_event_streaming(
            thread_id, last_event_id=last_event_id, stream_modes=stream_modes, ctx=ctx
        )
        async with aclosing(events):
            async for event, data, event_id, _ in events:
                yield event, data, event_id

    @staticmethod
    async def join_event_streaming(
        thread_id: UUID | str,
        *,
        last_event_id: str | None = None,
        stream_modes: Sequence[str],
        ctx: Context | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Follow a thread's events until the client goes, or the thread is deleted.

        Args:
            thread_id: Which thread; it may be one that is yet to be created.
            last_event_id: Begin after this event; "-", "-1" or "0" with all that is kept. None begins now.
            stream_modes: Which events: "run_modes" (all of the runs), "lifecycle" (their beginnings and
                ends), "state_update" (updates by callers).
            ctx: Who asks.

        Yields:
            The event's name, its data, its id (unique and rising in the thread's stream), and the run's id,
            or the thread's for an event of its own.

        Raises:
            HTTPException: 404, the thread is not for this caller.
        """
        thread_id = as_uuid(thread_id, "thread ID")
        await ThreadStream.check_thread_stream_auth(thread_id, ctx)
        after = None if last_event_id is None else _position(last_event_id)
        async with _Merged(thread_id, after) as merged:
            async for each in merged.events():
                if _is_wanted(each[0], each[1], stream_modes):
                    yield each

    @staticmethod
    async def publish(thread_id: UUID | str, event: str, message: bytes) -> None:
        """Tell those who follow the thread, unless it is too large; the thread has its state anyway."""
        if len(message) > largest_event_bytes():
            await logger.ainfo(
                "An event is too large for a stream", event_name=event, size_bytes=len(message)
            )
            return
        sealed = await seal_event(message)
        await attempt(
            lambda: feed.append(key("thread", thread_id), event.encode(), sealed, keep_seconds=keep_seconds())
        )

    @staticmethod
    async def check_thread_stream_auth(thread_id: UUID | str, ctx: Context | None = None) -> None:
        """Check that the caller may follow the thread.

        Raises:
            HTTPException: 404, they may not.
        """
        thread_id = as_uuid(thread_id, "thread ID")
        filters = await ThreadStream.handle_event(ctx, "read", Auth.types.ThreadsRead(thread_id=thread_id))
        if not filters:
            return
        async with connect() as conn:
            if await find_thread(conn, thread_id, filters, ()) is None:
                raise HTTPException(status_code=404, detail="Thread not found")


@dataclass(eq=False, slots=True)
class _Source:
    """A feed that is followed: the thread's own, or that of a run."""

    id: UUID
    name: str
    position: bytes
    reader: feed.Reader
    """Only rings; what it brings is read again, from all feeds at one moment."""
    following: AsyncExitStack
    was_in_flight: bool
    looks_without_end: int = 0


class _Merged:
    """The feeds of a thread and its runs as one."""

    def __init__(self, thread_id: UUID, after: bytes | None) -> None:
        """Begin after the event with the given id; None begins now."""
        self._thread_id = thread_id
        self._after = after
        self._arrived = asyncio.Event()
        self._sources: dict[UUID, _Source] = {}
        self._known: set[UUID] = set()
        self._exists = self._existed = False
        self._looked_at = float("-inf")
        self._hurried_looks = 0
        self._interruptions = feed.follower().interruptions

    async def __aenter__(self) -> Self:
        """Follow the thread, and the runs that it has."""
        self._began = await _patiently(feed.now)
        # The thread first: a run that is created from now on is announced there.
        await self._follow(self._thread_id, key("thread", self._thread_id), in_flight=False)
        await self._follow_runs(await self._runs())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Follow nothing any more."""
        for source_id in list(self._sources):
            await self._leave(source_id)

    async def events(self) -> AsyncIterator[Event]:
        """Yield what has been, and then what comes, all in one order."""
        while True:
            for source_id, entry in await self._read():
                yield _shown(source_id, entry)
                if is_done(entry):
                    await self._leave(source_id)
            if self._must_look():
                for run_id in await self._look():
                    yield _end_of(run_id, None)
                if self._is_over():
                    return
            with suppress(TimeoutError):
                async with asyncio.timeout(settings().poll_seconds):
                    await self._arrived.wait()

    async def _read(self) -> list[tuple[UUID, feed.Entry]]:
        """Read all feeds at one moment, so that whatever is read later has higher ids."""
        self._arrived.clear()
        while True:
            positions = {source.name: source.position for source in self._sources.values()}
            found = await attempt(partial(feed.past_of_all, positions))
            if found is None:
                return []
            announced = {
                UUID(entry.data.decode()): False
                for entry in found.get(self._sources[self._thread_id].name, ())
                if entry.event == RUN
            }
            if not announced.keys() - self._known:
                break
            await self._follow_runs(announced | await self._runs())
        entries: list[tuple[UUID, feed.Entry]] = []
        for source in self._sources.values():
            while not source.reader.queue.empty():
                source.reader.queue.get_nowait()
            if new := found.get(source.name):
                source.position = new[-1].id
                entries += [(source.id, await _opened(entry)) for entry in new if entry.event != RUN]
        return sorted(entries, key=lambda each: feed.order(each[1].id))

    async def _follow_runs(self, runs: dict[UUID, bool]) -> None:
        for run_id in runs.keys() - self._known:
            self._known.add(run_id)
            await self._follow(run_id, run_feed(run_id), in_flight=runs[run_id])

    async def _follow(self, source_id: UUID, name: str, *, in_flight: bool) -> None:
        following = AsyncExitStack()
        reader = await following.enter_async_context(feed.follower().follow(name, self._began, self._arrived))
        self._sources[source_id] = _Source(
            source_id, name, self._after or self._began, reader, following, in_flight
        )

    async def _leave(self, source_id: UUID) -> None:
        if (source := self._sources.pop(source_id, None)) is not None:
            await source.following.aclose()

    def _must_look(self) -> bool:
        """Whether it is time for it: at every poll while Valkey is away, and for a while after."""
        follower = feed.follower()
        if not follower.is_connected or follower.interruptions != self._interruptions:
            self._interruptions, self._hurried_looks = follower.interruptions, _HURRIED_LOOKS
        polls = 1 if self._hurried_looks else _QUIET_POLLS
        if time.monotonic() - self._looked_at < settings().poll_seconds * polls:
            return False
        self._looked_at = time.monotonic()
        self._hurried_looks = max(0, self._hurried_looks - 1)
        return True

    async def _look(self) -> list[UUID]:
        """Compare with the table of runs: follow new ones, and return those whose end was not told."""
        runs = await self._runs()
        if runs.keys() - self._known:
            await self._follow_runs(runs)
            self._arrived.set()
        untold = []
        for source in list(self._sources.values()):
            if source.id == self._thread_id:
                continue
            if runs.get(source.id):
                source.was_in_flight, source.looks_without_end = True, 0
                continue
            source.looks_without_end += 1
            if source.looks_without_end >= _LOOKS_WITHOUT_END:
                await self._leave(source.id)
                if source.was_in_flight:
                    untold.append(source.id)
        return untold

    async def _runs(self) -> dict[UUID, bool]:
        """The runs whose feeds may have something, and whether they are in flight."""
        parameters = {"thread_id": self._thread_id, "seconds": keep_seconds()}
        try:
            async with connect() as conn:
                rows = await conn.fetch(_RUNS, parameters)
        except TRANSIENT as error:
            await logger.awarning("The thread's runs cannot be read now", error=str(error))
            return {source.id: source.was_in_flight for source in self._sources.values()}
        self._existed = self._existed or bool(rows)
        self._exists = bool(rows)
        return {row["run_id"]: row["in_flight"] for row in rows if row["run_id"] is not None}

    def _is_over(self) -> bool:
        # A thread that is not there yet may be created; one that was deleted has told all its runs' ends.
        return self._existed and not self._exists and self._sources.keys() <= {self._thread_id}


async def _opened(entry: feed.Entry) -> feed.Entry:
    return feed.Entry(entry.id, entry.event, await open_event(entry.data))


def _shown(source_id: UUID, entry: feed.Entry) -> Event:
    if is_done(entry):
        return _end_of(source_id, entry.id)
    return entry.event, entry.data, entry.id, str(source_id)


def _end_of(run_id: UUID, event_id: bytes | None) -> Event:
    return b"metadata", orjson.dumps({"status": "run_done", "run_id": run_id}), event_id, str(run_id)


def _is_wanted(event: bytes, data: bytes, modes: Sequence[str]) -> bool:
    if event == b"state_update":
        return "state_update" in modes
    if event == CONTROL:
        return False
    return "run_modes" in modes or ("lifecycle" in modes and event == b"metadata" and _is_lifecycle(data))


def _is_lifecycle(data: bytes) -> bool:
    try:
        told = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    is_begin = isinstance(told, dict) and "attempt" in told and "run_id" in told
    return is_begin or (isinstance(told, dict) and told.get("status") == "run_done")


def _position(last_event_id: str) -> bytes:
    """Where to begin, from what a client sends: an id, its first half, or a sign for the beginning."""
    milliseconds, _, sequence = last_event_id.partition("-")
    if not milliseconds.isdecimal():
        return feed.BEGINNING
    highest = 2**64 - 1
    number = int(sequence) if sequence.isdecimal() else 0
    return f"{min(int(milliseconds), highest)}-{min(number, highest)}".encode()


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask Valkey, again and again while it is away."""
    while True:
        if (answer := await attempt(ask)) is not None:
            return answer
        await asyncio.sleep(settings().poll_seconds)
