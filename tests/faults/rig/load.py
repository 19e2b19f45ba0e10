"""The load: background runs with callbacks, and clients that join, stream and create through the fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from sdk_client import (
    Client,
    DeadlineExceededError,
    OutcomeUnknownError,
    PlatformUnavailableError,
    RunHandle,
    RunResult,
    StreamEvent,
    StreamGap,
    new_request_id,
)
from tests.faults.rig.setup import Durability, Shape

GRAPH = "steps"
NODES = ("one", "two", "three", "four")
_TOLD = (PlatformUnavailableError, OutcomeUnknownError, DeadlineExceededError)
_CREATE_ANEW_SECONDS = 0.2


@dataclass
class Clients:
    """How the clients fared."""

    right: int = 0
    """They got the run's own result."""
    told: int = 0
    """They got an error that says what to do: the platform is away, ask again."""
    wrong: list[str] = field(default_factory=list)
    """Anything else, in words."""
    stream_gaps: int = 0
    """Streams that said that events are gone, and went on."""


class Load:
    """Runs in flight and who waits for them, each run on a thread of its own."""

    def __init__(self, client: Client, webhook_url: str, shape: Shape, durability: Durability) -> None:
        """Use the client for all; nothing is sent yet."""
        self.shape = shape
        self.clients = Clients()
        self.handles: list[RunHandle] = []
        """Every run whose creation was confirmed."""
        self._client = client
        self._options: dict[str, Any] = {"webhook": webhook_url, "durability": durability}
        self._input = {"megabytes": shape.megabytes} if shape.megabytes else {}
        self.not_yet_created = 0
        """Runs whose creation is still being tried."""
        self._waiting: list[asyncio.Task[None]] = []

    async def submit(self) -> None:
        """Create the background runs, all at once."""
        self.handles += await asyncio.gather(
            *(self._client.submit(GRAPH, self._input, **self._options) for _ in range(self.shape.runs))
        )

    def attach(self) -> None:
        """Join and stream the runs that the fault will meet, and those that will then still wait."""
        next_ones = self.handles[self.shape.done :][: self.shape.in_flight]
        for handle in next_ones + self.handles[self.shape.runs - self.shape.last :]:
            self._begin("join", self._client.join(handle))
            self._begin("stream", self._stream(handle))

    def create_more(self) -> None:
        """Create runs from now on, as callers who keep at it, and join them."""
        self.not_yet_created += self.shape.creating
        for _ in range(self.shape.creating):
            self._begin("create", self._create_for_sure())

    def is_right(self, visited: object, filler: int) -> bool:
        """Whether these are the values of a run of this load: every node, and what the last one filled in."""
        return visited == list(NODES) and filler == int(self.shape.megabytes * 1e6)

    async def until_clients_are_done(self, timeout_seconds: float) -> None:
        """Wait for those who wait; who does not end in time counts as wrong."""
        if not self._waiting:
            return
        _, late = await asyncio.wait(self._waiting, timeout=timeout_seconds)
        for task in late:
            self.clients.wrong.append(
                f"{task.get_name()}: still waits {timeout_seconds:.0f} s after all runs"
            )
        await self.stop()

    async def stop(self) -> None:
        """Give up waiting."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    def _begin(self, kind: str, work: Awaitable[RunResult]) -> None:
        self._waiting.append(asyncio.create_task(self._judge(kind, work), name=kind))

    async def _judge(self, kind: str, work: Awaitable[RunResult]) -> None:
        try:
            result = await work
        except _TOLD:
            self.clients.told += 1
        except Exception as error:  # whatever it is, it is what a caller would have to live with
            self.clients.wrong.append(f"{kind}: {type(error).__name__}: {error}")
        else:
            if self.is_right(result.values.get("visited"), len(result.values.get("filler", ""))):
                self.clients.right += 1
            else:
                self.clients.wrong.append(f"{kind}: run {result.run_id} gave {str(result.values)[:500]}")

    async def _stream(self, handle: RunHandle) -> RunResult:
        """Follow a run to its end; all its states must come, unless the stream says that some are gone."""
        states: list[int] = []
        has_gap = False
        async with aclosing(self._client.watch(handle)) as items:
            async for item in items:
                match item:
                    case StreamEvent(event="values"):
                        states.append(len(item.data.get("visited", [])))
                    case StreamGap():
                        has_gap = True
                    case RunResult():
                        missing = set(range(1, len(NODES) + 1)) - set(states)
                        if missing and not has_gap:
                            raise AssertionError(f"a stream of run {handle.run_id} left out states {missing}")
                        self.clients.stream_gaps += has_gap
                        return item
        raise AssertionError(f"a stream of run {handle.run_id} ended without a result")

    async def _create_for_sure(self) -> RunResult:
        """Create one run as the documentation says: ask again under the same name until it is known."""
        name = new_request_id()
        while True:
            try:
                handle = await self._client.submit(GRAPH, self._input, request_id=name, **self._options)
                break
            except (PlatformUnavailableError, OutcomeUnknownError):
                await asyncio.sleep(_CREATE_ANEW_SECONDS)
        self.handles.append(handle)
        self.not_yet_created -= 1
        while True:
            try:
                return await self._client.join(handle)
            except PlatformUnavailableError:
                await asyncio.sleep(_CREATE_ANEW_SECONDS)
