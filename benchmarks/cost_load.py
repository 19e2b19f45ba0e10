"""What `cost` measures by: runs, one or a few at a time, and what was used while they were made."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
from langgraph_sdk.client import LangGraphClient

from benchmarks.cost_rig import Rig, Used

AT_ONCE = 4
WARM_UP_SECONDS = 1.0
MOST_SECONDS = 12.0


@dataclass(frozen=True)
class Wanted:
    """How well to measure."""

    rounds: int
    seconds: float
    runs: int


@contextlib.asynccontextmanager
async def connected(rig: Rig) -> AsyncIterator[LangGraphClient]:
    """A client of the rig's server."""
    async with httpx.AsyncClient(base_url=rig.url, timeout=60) as http:
        yield LangGraphClient(http)


async def run_once(client: LangGraphClient, given: dict[str, Any], *, stream: bool = False) -> None:
    """One run on a thread of its own.

    Raises:
        RuntimeError: It did not do what it was told.
    """
    thread_id = str(uuid.uuid4())
    if stream:
        parts = client.runs.stream(
            thread_id, "steps", input=given, if_not_exists="create", stream_mode="updates"
        )
        done = len([part async for part in parts if part.event == "updates"])
    else:
        values: Any = await client.runs.wait(thread_id, "steps", input=given, if_not_exists="create")
        done = values.get("done", 0)
    if done != given["steps"]:
        raise RuntimeError(f"a run of {given['steps']} steps did {done}")


async def measured_load(
    rig: Rig, client: LangGraphClient, given: dict[str, Any], wanted: Wanted, *, stream: bool = False
) -> tuple[int, Used]:
    """Let a few callers work; returns how many runs ended while it was measured, and what was used."""
    ended, closed = 0, False

    async def caller() -> None:
        nonlocal ended
        while not closed:
            await run_once(client, given, stream=stream)
            ended += 1

    # What is kept of the runs before would go away meanwhile.
    rig.valkey.flushall()
    callers = [asyncio.create_task(caller()) for _ in range(AT_ONCE)]
    await asyncio.sleep(WARM_UP_SECONDS)
    began, before, opened = ended, await asyncio.to_thread(rig.used), time.monotonic()
    while (passed := time.monotonic() - opened) < MOST_SECONDS:
        if passed >= wanted.seconds and ended - began >= wanted.runs:
            break
        await asyncio.sleep(0.02)
    runs, used = ended - began, (await asyncio.to_thread(rig.used)).since(before)
    closed = True
    await asyncio.gather(*callers)
    return max(runs, 1), used
