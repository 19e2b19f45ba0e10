"""The client process: reads a `Load` a line from standard input, makes it, writes what it saw.

A process of its own, so that no server shares an interpreter with its client; the same one for every server,
so that its own cost is alike for all. A load is answered with three lines: "open" and "closed", between which
is measured, and the JSON of `Seen`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

import httpx
import uvloop
from langgraph_sdk.client import LangGraphClient
from pydantic import TypeAdapter

from benchmarks.bare import SAVERS, bare_graph
from benchmarks.cases import CASES, Answer, WrongAnswerError
from benchmarks.measurement import Load, Seen

REQUEST_TIMEOUT_SECONDS = 30.0
REPORTED_FAULTS = 3
# Less than the five after which the servers close a connection that idles: a request that meets that fails.
IDLE_CONNECTION_SECONDS = 2.0
LOOK_SECONDS = 0.01
LONGEST_WARM_UP_SECONDS = 6.0
LONGEST_SECONDS = 8.0
OPEN = "open"
CLOSED = "closed"

Request = Callable[[int], Awaitable[Answer]]


def main() -> None:
    """Make loads until standard input ends."""
    loads, answers = TypeAdapter(Load), TypeAdapter(Seen)
    for line in sys.stdin:
        seen = uvloop.run(make_load(loads.validate_json(line)))
        say(answers.dump_json(seen).decode())


def say(line: str) -> None:
    """Write a line that is read at once."""
    print(line, flush=True)


async def make_load(load: Load) -> Seen:
    """Let the clients work for the time of the load."""
    async with requests_of(load) as requests:
        return await Clock(load, requests).run()


@contextlib.asynccontextmanager
async def requests_of(load: Load) -> AsyncIterator[list[Request]]:
    """For each client, what one request of it is."""
    if load.case in SAVERS:
        async with bare_graph(load.target, load.case, load.clients) as call:
            yield [call] * load.clients
        return
    async with contextlib.AsyncExitStack() as held:
        # Made once: reading the machine's certificates takes a while, also where nothing is encrypted.
        context = ssl.create_default_context()
        yield [
            partial(CASES[load.case], LangGraphClient(await held.enter_async_context(_http(load, context))))
            for _ in range(load.clients)
        ]


def _http(load: Load, context: ssl.SSLContext) -> httpx.AsyncClient:
    """One client's own connection: in a shared pool, choosing one of many would be half of its work."""
    limits = httpx.Limits(max_connections=1, keepalive_expiry=IDLE_CONNECTION_SECONDS)
    return httpx.AsyncClient(
        base_url=load.target,
        transport=httpx.AsyncHTTPTransport(verify=context, retries=0, limits=limits),
        timeout=httpx.Timeout(REQUEST_TIMEOUT_SECONDS),
    )


class Clock:
    """One load: the time that is measured, and what is seen in it."""

    def __init__(self, load: Load, requests: Sequence[Request]) -> None:
        """Nothing is begun yet."""
        self._load = load
        self._requests = requests
        self._numbers = itertools.count(1)
        self._seen = Seen()
        self._answered = 0
        self._opened_at = math.inf
        self._is_closed = False

    async def run(self) -> Seen:
        """Let the clients work, and say when measuring begins and ends."""
        load, seen = self._load, self._seen
        clients = [asyncio.create_task(self._client(request)) for request in self._requests]
        await self._until_all_had_a_turn(load.warm_up_seconds, LONGEST_WARM_UP_SECONDS)
        self._opened_at = time.perf_counter()
        say(OPEN)
        cpu_seconds = time.process_time()
        await self._until_all_had_a_turn(load.seconds, max(load.seconds, LONGEST_SECONDS))
        seen.client_cpu_seconds = time.process_time() - cpu_seconds
        seen.seconds = time.perf_counter() - self._opened_at
        self._is_closed = True
        say(CLOSED)
        await asyncio.gather(*clients)
        return seen

    async def _until_all_had_a_turn(self, shortest_seconds: float, longest_seconds: float) -> None:
        """Many clients of a slow server need longer than few of a fast one before a rate means something."""
        began = time.perf_counter()
        wanted = self._answered + self._load.clients
        while (passed := time.perf_counter() - began) < longest_seconds:
            if passed >= shortest_seconds and self._answered >= wanted:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _client(self, request: Request) -> None:
        while not self._is_closed:
            began = time.perf_counter()
            try:
                answer = await request(next(self._numbers))
            except WrongAnswerError as wrong:
                self._seen.wrong += 1
                self._note(wrong)
            except Exception as error:  # whatever a request may fail with is counted and shown
                self._seen.failed += 1
                self._note(error)
                await asyncio.sleep(0.1)  # a server that refuses at once is not to be hammered
            else:
                self._count(answer, began, time.perf_counter())

    def _count(self, answer: Answer, began: float, ended: float) -> None:
        seen = self._seen
        self._answered += 1
        if ended >= self._opened_at and not self._is_closed:
            seen.completed += 1
            seen.events += answer.events
        if began < self._opened_at:
            return
        seen.latencies_seconds.append(ended - began)
        if answer.first_event_seconds is not None:
            seen.first_event_seconds.append(answer.first_event_seconds)

    def _note(self, error: Exception) -> None:
        if len(self._seen.faults) < REPORTED_FAULTS:
            self._seen.faults.append(f"{type(error).__name__}: {error}"[:300])


if __name__ == "__main__":
    main()
