"""One thread, a thousand turns: how the time and the size of a turn grow with the conversation."""

from __future__ import annotations

import contextlib
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
from langgraph_sdk.client import LangGraphClient

from benchmarks.bare import postgres_pool
from benchmarks.graphs.chat import text_of
from benchmarks.results import Growth
from benchmarks.sides import RunningSide

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

TURNS = 1000
BLOCK = 50
# The in-memory server takes a second a turn with one client: a thousand would take a quarter of an hour.
# Our server's other forms do the same here as the default one.
SIDES = ("bare", "shared", "aegra", "langhost")

Turn = Callable[[dict[str, Any]], Awaitable[Any]]


async def measure_growth(sides: Mapping[str, RunningSide], note: Callable[[str], None]) -> list[Growth]:
    """Let each side hold one long conversation, a block of turns at a time, side after side.

    Raises:
        RuntimeError: A side's conversation is not what was said.
    """
    chosen = [side for name, side in sides.items() if name in SIDES]
    grown = {side.side.name: Growth(side.side.name, [], [], []) for side in chosen}
    async with contextlib.AsyncExitStack() as held:
        turns = {side.side.name: await held.enter_async_context(_conversation(side)) for side in chosen}
        for begin in range(0, TURNS, BLOCK):
            for side in chosen:
                growth = grown[side.side.name]
                before = _database_bytes(side)
                seconds = [
                    await _turn(turns[side.side.name], number + 1) for number in range(begin, begin + BLOCK)
                ]
                growth.turns.append(begin + BLOCK)
                growth.p50_seconds.append(statistics.median(seconds))
                growth.bytes_per_turn.append((_database_bytes(side) - before) / BLOCK)
            note(f"growth: {begin + BLOCK} of {TURNS} turns")
    return list(grown.values())


async def _turn(turn: Turn, number: int) -> float:
    began = time.perf_counter()
    values = await turn({"messages": [{"role": "user", "content": text_of("user", number)}]})
    seconds = time.perf_counter() - began
    messages = values.get("messages", [])
    if len(messages) != 2 * number or messages[-1]["content"] != text_of("assistant", number):
        raise RuntimeError(f"after {number} turns there are {len(messages)} messages, or the last is wrong")
    return seconds


@contextlib.asynccontextmanager
async def _conversation(side: RunningSide) -> AsyncIterator[Turn]:
    if side.process is None:
        async with _bare(side.target) as turn:
            yield turn
        return
    async with httpx.AsyncClient(base_url=side.target, timeout=60) as http:
        client = LangGraphClient(http)
        thread_id = (await client.threads.create())["thread_id"]

        async def call(given: dict[str, Any]) -> Any:
            return await client.runs.wait(thread_id, "chat", input=given)

        yield call


@contextlib.asynccontextmanager
async def _bare(database_uri: str) -> AsyncIterator[Turn]:
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    from benchmarks.graphs.chat import builder

    async with postgres_pool(database_uri, 4) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        graph = builder.compile(checkpointer=saver)
        config: RunnableConfig = {"configurable": {"thread_id": str(uuid.uuid4())}}

        async def call(given: dict[str, Any]) -> Any:
            return await graph.ainvoke(given, config, durability="async")  # type: ignore[call-overload]

        yield call


def _database_bytes(side: RunningSide) -> int:
    with psycopg.connect(side.database_uri) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])
