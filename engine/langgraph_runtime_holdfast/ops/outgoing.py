"""What an event loop tells Valkey: everything that comes while a round trip is under way goes with the next.

Nobody waits for it, so a run is not held up by its events. They keep their order. The loops of jobs leave it
to the main loop, whose round trips then serve all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

import structlog
from redis.asyncio.client import Pipeline

from langgraph_runtime_holdfast.feed import MAX_ENTRIES, add_all_to
from langgraph_runtime_holdfast.ops.hints import attempt
from langgraph_runtime_holdfast.valkey import valkey

logger = structlog.stdlib.get_logger(__name__)

_MOST_EVENTS_WAITING: Final = 1_000
_MOST_BYTES_WAITING: Final = 8 * 1024 * 1024

_FULL_STEP_SECONDS: Final = 0.01

Command = Callable[[Pipeline], object]


@dataclass(slots=True)
class _Events:
    """What is appended to one feed."""

    keep_seconds: int
    most: int
    entries: list[tuple[bytes, bytes]] = field(default_factory=list)


class _Load:
    """What one round trip takes."""

    def __init__(self) -> None:
        self.feeds: dict[str, _Events] = {}
        self.commands: list[Command] = []
        self.names: set[str] = set()
        self.if_lost: list[Callable[[], object]] = []
        self.events = self.size_bytes = 0
        self.sent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class Outgoing:
    """Belongs to an event loop."""

    def __init__(self) -> None:
        """Send nothing yet."""
        self._next: _Load | None = None
        self._under_way: _Load | None = None
        self._task: asyncio.Task[None] | None = None

    def append(
        self,
        feed: str,
        event: bytes,
        data: bytes,
        *,
        keep_seconds: int,
        most: int = MAX_ENTRIES,
        if_lost: Callable[[], object] | None = None,
    ) -> None:
        """Add an event to a feed, soon; call `if_lost` if Valkey does not take it."""
        load = self._load()
        events = load.feeds.setdefault(feed, _Events(keep_seconds, most))
        events.keep_seconds, events.most = keep_seconds, most
        events.entries.append((event, data))
        load.events += 1
        load.size_bytes += len(data)
        if if_lost is not None:
            load.if_lost.append(if_lost)

    def send(self, command: Command, *, once_as: str | None = None) -> None:
        """Do something else with the same pipeline, after the events so far.

        Args:
            command: Called with the pipeline.
            once_as: Of several commands under this name one is enough.
        """
        load = self._load()
        if once_as is None:
            load.commands.append(command)
        elif once_as not in load.names:
            load.names.add(once_as)
            load.commands.append(command)

    def is_full(self) -> bool:
        """Whether more is waiting than should."""
        load = self._next
        return load is not None and (
            load.events >= _MOST_EVENTS_WAITING or load.size_bytes >= _MOST_BYTES_WAITING
        )

    async def wait_if_full(self) -> None:
        """Hold up whoever sends faster than Valkey takes it."""
        # Rare, and also about another loop's, which an Event could not be.
        while self.is_full():  # noqa: ASYNC110
            await asyncio.sleep(_FULL_STEP_SECONDS)

    async def settle(self) -> bool:
        """Wait until all is sent that was to be sent by now; whether Valkey took the last of it."""
        load = self._next or self._under_way
        return True if load is None else await asyncio.shield(load.sent)

    def _load(self) -> _Load:
        if self._next is None:
            self._next = _Load()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._send_on())
        return self._next

    async def _send_on(self) -> None:
        await asyncio.sleep(0)
        while (load := self._next) is not None:
            self._next, self._under_way = None, load
            sent = False
            try:
                sending = partial(_send, load)
                sent = await attempt(sending, size_bytes=load.size_bytes) is not None
            except Exception as error:
                await logger.aexception("Signals could not be sent", exc_info=error)
            finally:
                self._under_way = None
                load.sent.set_result(sent)
                if not sent:
                    for tell in load.if_lost:
                        tell()


class OutgoingOfJobs(Outgoing):
    """Hands on to another loop's, once in each pass of its own loop."""

    def __init__(self, home: asyncio.AbstractEventLoop, of_home: Outgoing) -> None:
        """Hand on to `of_home`, in the loop `home`."""
        super().__init__()
        self._home, self._of_home = home, of_home
        self._calls: list[Callable[[], object]] = []

    def append(self, *args: Any, **options: Any) -> None:
        """As `Outgoing.append`."""
        self._add(partial(self._of_home.append, *args, **options))

    def send(self, command: Command, *, once_as: str | None = None) -> None:
        """As `Outgoing.send`."""
        self._add(partial(self._of_home.send, command, once_as=once_as))

    def is_full(self) -> bool:
        """As `Outgoing.is_full`."""
        return self._of_home.is_full()

    async def settle(self) -> bool:
        """As `Outgoing.settle`."""
        self._hand_on()
        settling = asyncio.run_coroutine_threadsafe(self._of_home.settle(), self._home)
        return await asyncio.wrap_future(settling)

    def _add(self, call: Callable[[], object]) -> None:
        self._calls.append(call)
        if len(self._calls) == 1:
            asyncio.get_running_loop().call_soon(self._hand_on)

    def _hand_on(self) -> None:
        calls, self._calls = self._calls, []
        if calls:
            self._home.call_soon_threadsafe(_call_all, calls)


def _call_all(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()


async def _send(load: _Load) -> list[Any]:
    async with valkey().pipeline(transaction=False) as pipe:
        for feed, events in load.feeds.items():
            add_all_to(pipe, feed, events.entries, keep_seconds=events.keep_seconds, most=events.most)
        for command in load.commands:
            command(pipe)
        results: list[Any] = await pipe.execute()
    return results


_outgoing: WeakKeyDictionary[asyncio.AbstractEventLoop, Outgoing] = WeakKeyDictionary()


def hand_on_to(home: asyncio.AbstractEventLoop, of_home: Outgoing) -> None:
    """Have the running loop leave it to another one."""
    _outgoing[asyncio.get_running_loop()] = OutgoingOfJobs(home, of_home)


def outgoing() -> Outgoing:
    """This loop's."""
    loop = asyncio.get_running_loop()
    found = _outgoing.get(loop)
    if found is None:
        found = _outgoing[loop] = Outgoing()
    return found
