"""What a client asks for, and whether the answer is right. One function a case, the same for every server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from langgraph_sdk.client import LangGraphClient

ASSISTANT = "three"
VISITED = ["first", "second", "third"]
EVENTS = 50
"""How many events of the graph's own one streamed run has; an update for each of its nodes comes on top."""


class WrongAnswerError(Exception):
    """The server answered, and not with what the graph computes."""


@dataclass(frozen=True)
class Answer:
    """What one request showed beside that it was right."""

    first_event_seconds: float | None = None
    """From the request for the stream to its first event from the graph."""
    events: int = 0


Case = Callable[[LangGraphClient, int], Awaitable[Answer]]


def check(values: Any, number: int) -> Answer:
    """Compare a run's final state with what the graph computes.

    Raises:
        WrongAnswerError: They differ.
    """
    if not isinstance(values, dict):
        raise WrongAnswerError(f"the answer for {number} is {values!r}")
    if values.get("total") != number * 2 + 1 or values.get("visited") != VISITED:
        raise WrongAnswerError(f"the answer for {number} is {values!r}")
    return Answer()


async def stateless_wait(client: LangGraphClient, number: int) -> Answer:
    """One request: run without a thread, wait for the result."""
    return check(await client.runs.wait(None, ASSISTANT, input={"number": number}), number)


async def thread_wait(client: LangGraphClient, number: int) -> Answer:
    """Two requests: make a thread; run in it and wait for the result."""
    thread = await client.threads.create()
    return check(await client.runs.wait(thread["thread_id"], ASSISTANT, input={"number": number}), number)


async def create_join(client: LangGraphClient, number: int) -> Answer:
    """Three requests: make a thread, create a run in it, join the run."""
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, ASSISTANT, input={"number": number})
    return check(await client.runs.join(thread_id, run["run_id"]), number)


async def stream(client: LangGraphClient, number: int) -> Answer:
    """Two requests: make a thread; run in it and read every event of the stream."""
    thread_id = (await client.threads.create())["thread_id"]
    values: dict[str, Any] = {"visited": []}
    ticks: list[int] = []
    first_event = None
    started = time.perf_counter()
    async for part in client.runs.stream(
        thread_id,
        ASSISTANT,
        input={"number": number, "events": EVENTS},
        stream_mode=["custom", "updates"],
    ):
        if part.event not in ("custom", "updates"):
            continue
        if first_event is None:
            first_event = time.perf_counter() - started
        data = cast("dict[str, Any]", part.data)
        if part.event == "custom":
            ticks.append(data["tick"])
            continue
        for update in data.values():
            values["total"] = update["total"]
            values["visited"] += update["visited"]
    check(values, number)
    if ticks != list(range(EVENTS)):
        raise WrongAnswerError(f"{len(ticks)} of {EVENTS} events, or not in order")
    return Answer(first_event, EVENTS + len(VISITED))


CASES: dict[str, Case] = {
    "stateless_wait": stateless_wait,
    "thread_wait": thread_wait,
    "create_join": create_join,
    "stream": stream,
}
