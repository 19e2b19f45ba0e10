"""Streams of a run's events: published by its worker, joined by any number of listeners in any process.

A listener follows the run's feed in Valkey up to the entry that says `done`. The database has the last word:
if it has the run's end and the feed does not, or the feed has lost something, the listener gets the committed
result as one more event, so that nobody waits for ever or takes half a state for the result.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import ClassVar, Final, Literal
from uuid import UUID

import structlog
from langgraph_sdk import Auth
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.database import connect
from langgraph_runtime_holdfast.event_seal import open_event
from langgraph_runtime_holdfast.feed import BEGINNING, PART, Entry, follower, last, order, past, trimmed
from langgraph_runtime_holdfast.ops.authenticated import Authenticated
from langgraph_runtime_holdfast.ops.filters import restrict
from langgraph_runtime_holdfast.ops.hints import attempt
from langgraph_runtime_holdfast.ops.lease import current_lease
from langgraph_runtime_holdfast.ops.run_feed import append_event, is_done, run_feed
from langgraph_runtime_holdfast.ops.run_hub import CONTROL, LOST, Listener, listen_to
from langgraph_runtime_holdfast.ops.run_result import kept_result, thread_result
from langgraph_runtime_holdfast.ops.run_watch import ENDED, run_watch
from langgraph_runtime_holdfast.ops.statement import Conditions, as_uuid
from langgraph_runtime_holdfast.settings import WORKER_ID
from langgraph_runtime_holdfast.valkey import VALKEY_ERRORS

logger = structlog.stdlib.get_logger(__name__)

Event = tuple[bytes, bytes, bytes | None]

_FACTS: Final = """
SELECT status, kwargs->>'resumable' = 'true' AS resumable, kwargs->'stream_mode' AS stream_modes,
       updated_at < now() - interval '5 seconds' AS is_settled, leased_by
FROM run_shown WHERE run_id = %(run_id)s AND thread_id = %(thread_id)s
"""
_EVENT_ID: Final = re.compile(r"(\d{1,19})(-\d{1,19})?")
_FROM_BEGINNING: Final = ("-1", "0", "-", "")
# Between the commit of a run's end and the feed's last entry.
_GRACE_SECONDS: Final = 2.0
_GRACE_STEP_SECONDS: Final = 0.1
_KEPT_STEP_SECONDS: Final = 0.5
_KEPT_SECONDS: Final = 10.0
"""How late the result of a stateless run may be kept: its worker, which may be short of time, does that after
the run's end, and nobody else has it."""


class StreamHandler:
    """A place in a run's events, taken before the run is created or joined: nothing in between is missed."""

    def __init__(self, listener: Listener) -> None:
        """Listen from now on."""
        self.listener = listener

    async def __aenter__(self) -> StreamHandler:
        """Give itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Listen no more."""
        self.listener.forget()


@dataclass(slots=True)
class _Listening:
    """What a listener knows about its run."""

    run_id: UUID
    thread_id: UUID
    feed: str
    position: bytes = BEGINNING
    is_over: bool = False
    """The feed had its last entry when the listener came."""
    is_here: bool = False
    """Its events are handed over in this process, or come into its inbox."""
    is_there: bool = False
    has_ended: bool = True
    """When the listener came."""
    is_settled: bool = False
    """Ended so long ago that whatever the feed gets, it has."""
    resumable: bool = False
    sends_values: bool = True
    done: bool = False
    lost: bool = False
    has_told: bool = False
    """The listener has got an event."""
    wants_only_result: bool = False
    """It did not create the run, and names no modes, not even none: it waits for the result."""
    part: int | None = 0
    """Of the feed, which is being read; None: it is not known which."""
    gone: bytes = BEGINNING
    """Up to here the feed's entries are gone."""
    modes: Sequence[str] = field(default_factory=list)


class RunStream(Authenticated):
    """What the API and the worker call as `Runs.Stream`."""

    resource: ClassVar[Literal["threads"]] = "threads"

    @staticmethod
    async def subscribe(run_id: UUID | str, thread_id: UUID | str | None = None) -> StreamHandler:
        """Listen from now on."""
        return StreamHandler(listen_to(as_uuid(run_id, "run ID")))

    @staticmethod
    async def join(
        run_id: UUID | str,
        *,
        stream_channel: StreamHandler,
        thread_id: UUID | str,
        ignore_404: bool = False,
        cancel_on_disconnect: bool = False,
        stream_mode: Sequence[str] | str | None = None,
        last_event_id: str | None = None,
        ctx: Auth.types.BaseAuthContext | None = None,
    ) -> AsyncIterator[Event]:
        """Yield a run's events until its end.

        Args:
            run_id: The run.
            stream_channel: From `subscribe`.
            thread_id: The run's thread.
            ignore_404: The run was created by this request and may be deleted at its end: no error then, and
                no question whether the caller may see it.
            cancel_on_disconnect: Cancel the run if the listener goes away.
            stream_mode: Only events of these modes; all of them by default.
            last_event_id: Of a resumable run: begin after this event; `-1` or `0` from the first.
            ctx: Who listens.

        Yields:
            The event's mode, its payload, and its id if the run is resumable.

        Raises:
            HTTPException: 404, the thread is not there for this caller.
        """
        run_id, thread_id = as_uuid(run_id, "run ID"), as_uuid(thread_id, "thread ID")
        if not ignore_404:
            await RunStream.check_run_stream_auth(run_id, thread_id, ctx)
        try:
            listening = await _begin(run_id, thread_id, stream_channel.listener)
            if not (listening.is_there or ignore_404):
                yield _gone(ignore_404=False)
                return
            listening.modes = [stream_mode] if isinstance(stream_mode, str) else list(stream_mode or ())
            listening.wants_only_result = stream_mode is None and not stream_channel.listener.is_creator
            if last_event_id is not None:
                wanted = _parse_event_id(last_event_id)
                if wanted is None:
                    yield _error(422, f"Last-Event-ID {last_event_id[:40]!r} is no id of an event")
                    return
                if listening.resumable:
                    listening.position, listening.is_over = wanted, False
                    listening.part = 0 if wanted == BEGINNING else None
                    listening.lost |= order(wanted) < order(listening.gone)
            if listening.is_here:
                async for event in _handed_over(listening, stream_channel.listener):
                    yield event
            elif not listening.has_ended:
                async for event in _live(listening):
                    yield event
            if not (listening.done or listening.is_over or listening.is_here):
                async for event in _remaining(listening):
                    yield event
            async for event in _ending(listening, ignore_404=ignore_404):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            if cancel_on_disconnect:
                _cancel_soon(run_id, thread_id)
            raise
        finally:
            stream_channel.listener.forget()

    @staticmethod
    async def check_run_stream_auth(
        run_id: UUID | str, thread_id: UUID | str, ctx: Auth.types.BaseAuthContext | None = None
    ) -> None:
        """Ask whether the caller may listen.

        Raises:
            HTTPException: 404, the thread is not there for this caller.
        """
        thread_id = as_uuid(thread_id, "thread ID")
        filters = await RunStream.handle_event(ctx, "read", Auth.types.ThreadsRead(thread_id=thread_id))
        if not filters:
            return
        conditions = Conditions()
        conditions.equal("thread_id", thread_id)
        restrict(conditions, filters, "metadata")
        async with connect() as handle:
            statement = f"SELECT 1 FROM thread WHERE {conditions}"  # noqa: S608 - values are parameters
            if await handle.fetch_one(statement, conditions.parameters) is None:
                raise HTTPException(status_code=404, detail="Thread not found")

    @staticmethod
    async def publish(
        run_id: UUID | str,
        event: str,
        message: bytes,
        *,
        thread_id: UUID | str | None = None,
        resumable: bool = False,
    ) -> None:
        """Add an event to the run's feed; a Valkey that is away loses it.

        Raises:
            LeaseLapsedError: The run may be another worker's; between two steps is the moment to stop.
        """
        if thread_id is None:
            raise ValueError("The events of a run are kept with its thread, which is not named")
        if (lease := current_lease()) is not None:
            lease.require()
        await append_event(
            as_uuid(thread_id, "thread ID"),
            as_uuid(run_id, "run ID"),
            event,
            message,
            resumable=resumable,
        )


def matches(mode: str, wanted: Sequence[str]) -> bool:
    """Whether an event of this mode belongs to the modes that a listener asked for.

    A subgraph's mode has a namespace after `|`; the modes of messages are variants of each other.
    """
    if not wanted or mode in wanted:
        return True
    if mode.startswith("messages") and ("messages" in wanted or "messages-tuple" in wanted):
        return True
    return "|" in mode and mode.partition("|")[0] in wanted


async def _begin(run_id: UUID, thread_id: UUID, listener: Listener) -> _Listening:
    listening = _Listening(run_id, thread_id, run_feed(thread_id, run_id))
    if listener.is_creator:
        listening.is_there, listening.has_ended = True, False
        listening.resumable, listening.is_here = listener.resumable, not listener.resumable
        listening.sends_values = "values" in listener.modes
        return listening
    await _find_place(listening)
    async with connect() as handle:
        row = await handle.fetch_one(_FACTS, {"run_id": run_id, "thread_id": thread_id}, often=True)
    if row is not None:
        listening.is_there = True
        listening.has_ended = row["status"] not in ("pending", "running")
        listening.is_settled = listening.has_ended and row["is_settled"]
        listening.resumable = bool(row["resumable"])
        listening.sends_values = "values" in (row["stream_modes"] or ())
        listening.is_here = row["leased_by"] == WORKER_ID and not listening.resumable
    return listening


async def _find_place(listening: _Listening) -> None:
    """Where the run's feed ends now."""
    newest = await attempt(listening.feed, lambda: last(listening.feed))
    if newest is not None:
        listening.position = newest.id
        listening.is_over = is_done(newest)
        if (measured := await attempt(listening.feed, lambda: trimmed(listening.feed))) is not None:
            listening.part, listening.gone = measured


async def _handed_over(listening: _Listening, listener: Listener) -> AsyncIterator[Event]:
    """Take what is handed over until `done`, or for a while after the database has the end."""
    readers = follower(listening.feed)
    before = readers.interruptions
    with run_watch().watch(listening.run_id, listener.queue):
        grace_seconds: float | None = None
        while not listening.done:
            try:
                entry = await _next_of(listener.queue, grace_seconds)
            except TimeoutError:
                break
            if entry is ENDED:
                grace_seconds = _GRACE_SECONDS
            elif (event := await _taken(listening, entry)) is not None:
                yield event
    # What was in Valkey's memory may have gone with the connection.
    listening.lost |= listener.is_remote and readers.interruptions != before


async def _next_of(queue: asyncio.Queue[Entry], limit_seconds: float | None) -> Entry:
    if limit_seconds is None:
        return await queue.get()
    async with asyncio.timeout(limit_seconds):
        return await queue.get()


async def _live(listening: _Listening) -> AsyncIterator[Event]:
    """Follow the feed until `done`, or until the database has the end."""
    readers = follower(listening.feed)
    before = readers.interruptions
    async with readers.follow(listening.feed, listening.position) as reader:
        with run_watch().watch(listening.run_id, reader.queue):
            while not listening.done:
                entry = await reader.queue.get()
                if entry is ENDED:
                    break
                if (event := await _taken(listening, entry)) is not None:
                    yield event
    # What was in Valkey's memory may have gone with the connection.
    listening.lost |= readers.interruptions != before


async def _remaining(listening: _Listening) -> AsyncIterator[Event]:
    """Read what is left in the feed of a run that has ended."""
    waited = 0.0
    while True:
        try:
            entries = await past(listening.feed, listening.position)
        except VALKEY_ERRORS:
            return
        for entry in entries:
            if (event := await _taken(listening, entry)) is not None:
                yield event
        if listening.done or listening.is_settled or waited >= _GRACE_SECONDS:
            return
        await asyncio.sleep(_GRACE_STEP_SECONDS)
        waited += _GRACE_STEP_SECONDS


async def _ending(listening: _Listening, *, ignore_404: bool) -> AsyncIterator[Event]:
    """Say what the feed could not."""
    is_whole = (listening.done or listening.is_over) and not listening.lost
    if is_whole or (listening.is_settled and not listening.lost):
        if listening.wants_only_result and not listening.has_told:
            # The server would read it next, and break off in the midst of its answer if it is gone by then.
            async with connect() as handle:
                result = await thread_result(handle, listening.thread_id, for_join=True)
            if result is None:
                yield _gone(ignore_404=ignore_404)
            elif listening.has_ended:
                yield (*result, None)
        return
    is_gone, result = await _looked_up(listening)
    if is_gone and ignore_404:
        with suppress(TimeoutError):
            async with asyncio.timeout(_KEPT_SECONDS):
                while is_gone:
                    await asyncio.sleep(_KEPT_STEP_SECONDS)
                    is_gone, result = await _looked_up(listening)
    if is_gone:
        yield _gone(ignore_404=ignore_404)
    elif result is not None and listening.sends_values and matches(result[0].decode(), listening.modes):
        yield (*result, None)


async def _looked_up(listening: _Listening) -> tuple[bool, tuple[bytes, bytes] | None]:
    """Whether the run is gone with its result, and what the database has of that."""
    async with connect() as handle:
        if (result := await kept_result(handle, listening.run_id)) is not None:
            return False, result
        where = {"run_id": listening.run_id, "thread_id": listening.thread_id}
        if await handle.fetch_one(_FACTS, where) is None:
            return True, None
        return False, await thread_result(handle, listening.thread_id)


async def _taken(listening: _Listening, entry: Entry) -> Event | None:
    """Note an entry; return the event that it is for this listener, if any."""
    if entry.id:
        listening.position = entry.id
    if entry.event == CONTROL:
        listening.done |= is_done(entry)
        listening.lost |= entry.data == LOST
        if entry.data.startswith(PART):
            part = int(entry.data.removeprefix(PART))
            listening.lost |= listening.part not in (None, part - 1)
            listening.part = part
        return None
    if not matches(entry.event.decode(), listening.modes):
        return None
    listening.has_told = True
    return entry.event, await open_event(entry.data), entry.id if listening.resumable else None


def _parse_event_id(text: str) -> bytes | None:
    if text in _FROM_BEGINNING:
        return BEGINNING
    if (found := _EVENT_ID.fullmatch(text)) is None:
        return None
    return text.encode() if found[2] else f"{text}-0".encode()


def _gone(*, ignore_404: bool) -> Event:
    if ignore_404:
        return _error(503, "The run has ended, but its result was lost together with Valkey's connection")
    return _error(404, "Run not found")


def _error(status_code: int, detail: str) -> Event:
    from langgraph_api.serde import json_dumpb

    return b"error", json_dumpb(HTTPException(status_code=status_code, detail=detail)), None


def _cancel_soon(run_id: UUID, thread_id: UUID) -> None:
    from langgraph_api.asyncio import create_task

    create_task(_cancel(run_id, thread_id))


async def _cancel(run_id: UUID, thread_id: UUID) -> None:
    from langgraph_runtime_holdfast.ops.runs import Runs

    async with connect() as handle:
        try:
            await Runs.cancel(handle, [run_id], thread_id=thread_id, reason="The client went away")
        except HTTPException as error:
            # It ended in the same moment.
            await logger.ainfo("Nothing to cancel", run_id=str(run_id), reason=error.detail)
