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

GRAPH = "steps"
NODES = ("one", "two", "three", "four")
RUNS = 50
DONE_BEFORE_THE_FAULT = 10
"""Once so many runs are done the fault comes; the next ones are then in flight."""
IN_FLIGHT = slice(DONE_BEFORE_THE_FAULT, DONE_BEFORE_THE_FAULT + 10)
LAST = slice(-5, None)
CREATING = 5
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
    """Runs in flight and who waits for them. The runs on `RUNS` threads of their own come first."""

    def __init__(self, client: Client, webhook_url: str, input: dict[str, Any] | None = None) -> None:
        """Use the client for all; nothing is sent yet."""
        self.clients = Clients()
        self.handles: list[RunHandle] = []
        """Every run whose creation was confirmed."""
        self._client = client
        self._webhook_url = webhook_url
        self._input = input or {}
        self.not_yet_created = 0
        """Runs whose creation is still being tried."""
        self._waiting: list[asyncio.Task[None]] = []

    async def submit(self, count: int = RUNS) -> None:
        """Create the background runs, all at once."""
        self.handles += await asyncio.gather(
            *(self._client.submit(GRAPH, self._input, webhook=self._webhook_url) for _ in range(count))
        )

    def attach(self) -> None:
        """Join and stream the runs that the fault will meet, and those that will then still wait."""
        for handle in self.handles[IN_FLIGHT] + self.handles[LAST]:
            self._begin("join", self._client.join(handle))
            self._begin("stream", self._stream(handle))

    def create_more(self) -> None:
        """Create runs from now on, as callers who keep at it, and join them."""
        self.not_yet_created += CREATING
        for _ in range(CREATING):
            self._begin("create", self._create_for_sure())

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
            if result.values.get("visited") == list(NODES):
                self.clients.right += 1
            else:
                self.clients.wrong.append(f"{kind}: run {result.run_id} gave {result.values}")

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
                handle = await self._client.submit(
                    GRAPH, self._input, request_id=name, webhook=self._webhook_url
                )
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
