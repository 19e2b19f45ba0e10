"""What runs in a rehearsal: steps that save, a stream, one that only sleeps, one that asks."""

import asyncio
from collections.abc import Awaitable, Callable
from operator import add
from typing import Annotated, Any

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

STEPS = ("one", "two", "three")
TICKS = 10


class State(TypedDict, total=False):
    text: str
    seconds: float
    visited: Annotated[list[str], add]
    answer: str


Node = Callable[[State], Awaitable[dict[str, Any]]]


def chain(**nodes: Node) -> Any:
    graph: Any = StateGraph(State)
    before = START
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    return graph.add_edge(before, END).compile()


def step(name: str) -> Node:
    async def work(state: State) -> dict[str, Any]:
        await asyncio.sleep(state.get("seconds", 0.1))
        return {"visited": [name]}

    return work


async def tick(state: State) -> dict[str, Any]:
    write = get_stream_writer()
    for number in range(TICKS):
        write({"tick": number})
        await asyncio.sleep(0.02)
    return {"visited": ["tick"]}


async def sleep(state: State) -> dict[str, Any]:
    await asyncio.sleep(state.get("seconds", 120.0))
    return {}


async def ask(state: State) -> dict[str, Any]:
    return {"answer": interrupt("How is it?")}


steps = chain(**{name: step(name) for name in STEPS})
ticks = chain(tick=tick)
sleeps = chain(sleep=sleep)
asks = chain(ask=ask)
