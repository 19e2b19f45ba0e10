"""Callers that keep at it while servers come and go: each kind in a loop of its own, counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import httpx

from sdk_client import Client, RunCancelledError, RunHandle, RunResult, StreamEvent, StreamGap
from tests.deploy.rehearsal.counts import Counts
from tests.deploy.rehearsal.graphs.flow import STEPS, TICKS

POLL_SECONDS = 0.05
PAUSE_SECONDS = 0.1
LONG_SECONDS = 60.0
_CUT = (httpx.TransportError,)


class Traffic:
    """All callers of one address."""

    def __init__(self, url: str, webhook_url: str, counts: Counts) -> None:
        """Prepare; `start()` begins.

        Args:
            url: Where the servers are reached, by way of a balancer.
            webhook_url: Where the ends of runs are told.
            counts: What is added to.
        """
        self.counts = counts
        self.handles: list[RunHandle] = []
        """Every run that was acknowledged with a callback."""
        self.client = Client(url)
        # A connection for each call, as a balancer makes them: a kept one may meet its server's end.
        self._http = httpx.AsyncClient(
            base_url=url, timeout=LONG_SECONDS, limits=httpx.Limits(max_keepalive_connections=0)
        )
        self._webhook_url = webhook_url
        self._running: list[asyncio.Task[None]] = []
        self._goes_on = True

    def start(self) -> None:
        """Begin to call, until `stop()`."""
        kinds = (self.run, self.run, self.wait, self.wait, self.stream, self.cancel)
        self._running = [asyncio.create_task(self._keep_at(kind)) for kind in kinds]

    async def finish(self) -> None:
        """Have each caller come to the end of what it is at."""
        self._goes_on = False
        await asyncio.gather(*self._running)

    async def stop(self) -> None:
        """Give up."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.client.aclose()
        await self._http.aclose()

    async def until_more(self, seconds: float, **wanted: int) -> None:
        """Wait until so many more of each kind are done, or the time is over."""
        goals = {kind: getattr(self.counts, kind) + more for kind, more in wanted.items()}
        async with asyncio.timeout(seconds):
            while any(  # noqa: ASYNC110 - eight loops count, and none is to know of this
                getattr(self.counts, kind) < goal for kind, goal in goals.items()
            ):
                await asyncio.sleep(POLL_SECONDS)

    async def run(self) -> None:
        """A run with a callback, submitted and joined."""
        handle = await self.client.submit("steps", {}, webhook=self._webhook_url)
        self.handles.append(handle)
        result = await self.client.join(handle, deadline_seconds=LONG_SECONDS)
        self._expect(result.values.get("visited") == list(STEPS), f"run {handle.run_id} gave {result.values}")
        self.counts.runs += 1

    async def wait(self) -> None:
        """A stateless run in one call, whose result is nowhere but in the answer."""
        body = {"assistant_id": "steps", "input": {"text": "a"}}
        try:
            answer = await self._http.post("/runs/wait", json=body)
        except _CUT:
            self.counts.cut += 1
            return
        values = answer.json() if answer.is_success else None
        if isinstance(values, Mapping) and values.get("visited") == list(STEPS):
            self.counts.stateless += 1
        else:
            self.counts.lost += 1
            self.counts.evidence.append(f"a stateless wait: {answer.status_code} {answer.text[:200]}")

    async def stream(self) -> None:
        """A stream, all of whose events are counted."""
        handle = await self.client.submit("ticks", {}, stream_mode=["custom"])
        seen: list[Any] = []
        has_gap = False
        async with aclosing(self.client.watch(handle)) as items:
            async for item in items:
                match item:
                    case StreamEvent(event="custom"):
                        seen.append(item.data["tick"])
                    case StreamGap():
                        has_gap = True
                    case RunResult():
                        break
        self.counts.gaps += has_gap
        # A run that goes on elsewhere after a kill does its step again, with the events of it.
        self._expect(has_gap or set(seen) == set(range(TICKS)), f"a stream of {handle.run_id}: {seen}")
        self.counts.streams += 1

    async def cancel(self) -> None:
        """A run that is stopped by whoever answers, wherever it runs."""
        handle = await self.client.submit("sleeps", {})
        while (await self.status(handle)) == "pending":  # noqa: ASYNC110 - of that nobody is told
            await asyncio.sleep(POLL_SECONDS)
        await self.client.cancel(handle)
        try:
            await self.client.join(handle, deadline_seconds=LONG_SECONDS)
        except RunCancelledError:
            self.counts.cancels += 1
        else:
            self._expect(False, f"run {handle.run_id} could not be cancelled")

    async def pause(self) -> str:
        """A thread that waits for an answer; returns it."""
        thread = await self.call("POST", "/threads", {})
        path = f"/threads/{thread['thread_id']}"
        await self.call("POST", f"{path}/runs/wait", {"assistant_id": "asks", "input": {}})
        interrupts = (await self.call("GET", path))["interrupts"]
        self._expect(len(interrupts) == 1, f"{path} does not wait: {interrupts}")
        return str(thread["thread_id"])

    async def resume(self, thread_id: str) -> None:
        """Answer it."""
        body = {"assistant_id": "asks", "command": {"resume": "fine"}}
        values = await self.call("POST", f"/threads/{thread_id}/runs/wait", body)
        self._expect(values.get("answer") == "fine", f"{thread_id} was answered and says {values}")
        self.counts.resumes += 1

    async def status(self, handle: RunHandle) -> str:
        """A run's status, as the API has it."""
        return str((await self.call("GET", f"/threads/{handle.thread_id}/runs/{handle.run_id}"))["status"])

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """A plain call, made again while nobody is there; for what may be repeated."""
        while True:
            try:
                answer = await self._http.request(method, path, json=body)
            except _CUT:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            return answer.raise_for_status().json() if answer.content else None

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise AssertionError(otherwise)

    async def _keep_at(self, kind: Callable[[], Awaitable[None]]) -> None:
        while self._goes_on:
            try:
                await kind()
            except Exception as error:  # whatever it is, it is what a caller would have to live with
                self.counts.failed += 1
                self.counts.evidence.append(f"{kind.__name__}: {type(error).__name__}: {error}")
            await asyncio.sleep(PAUSE_SECONDS)
