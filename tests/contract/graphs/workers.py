"""Graphs of the contract tests that run through without a human."""

import asyncio
import os
import time
from operator import add
from typing import Annotated, Any

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


class EchoState(TypedDict, total=False):
    """What goes in comes out, and is kept over the conversation."""

    text: str
    heard: Annotated[list[str], add]


async def say(state: EchoState) -> dict[str, Any]:
    return {"heard": [state["text"]]}


echo = StateGraph(EchoState).add_node("say", say).add_edge(START, "say").add_edge("say", END).compile()


class SlowState(TypedDict, total=False):
    """`step_seconds` is how long each of the three steps takes."""

    step_seconds: float
    visited: Annotated[list[str], add]


def _step(name: str) -> Any:
    async def step(state: SlowState) -> dict[str, Any]:
        await asyncio.sleep(state.get("step_seconds", 0.3))
        return {"visited": [name]}

    return step


slow = (
    StateGraph(SlowState)
    .add_node("one", _step("one"))
    .add_node("two", _step("two"))
    .add_node("three", _step("three"))
    .add_edge(START, "one")
    .add_edge("one", "two")
    .add_edge("two", "three")
    .add_edge("three", END)
    .compile()
)


class FailingState(TypedDict, total=False):
    """`reason` is the text of the error."""

    reason: str
    prepared: bool


async def prepare(state: FailingState) -> dict[str, Any]:
    return {"prepared": True}


async def fail(state: FailingState) -> dict[str, Any]:
    raise ValueError(state["reason"])


failing = (
    StateGraph(FailingState)
    .add_node("prepare", prepare)
    .add_node("fail", fail)
    .add_edge(START, "prepare")
    .add_edge("prepare", "fail")
    .compile()
)


class TickerState(TypedDict, total=False):
    """`ticks` events in bursts of ten, many of them within one millisecond and some of them equal."""

    ticks: int
    pause_seconds: float
    sent: int


async def tick(state: TickerState) -> dict[str, Any]:
    write = get_stream_writer()
    for number in range(state["ticks"]):
        write({"tick": number} if number % 3 else {"blank": " "})
        if number % 10 == 9:
            await asyncio.sleep(state.get("pause_seconds", 0.02))
    return {"sent": state["ticks"]}


ticker = (
    StateGraph(TickerState).add_node("tick", tick).add_edge(START, "tick").add_edge("tick", END).compile()
)


class BlockingState(TypedDict, total=False):
    """`until` is a file; its node blocks the loop on which it runs until that is there."""

    until: str


async def block(state: BlockingState) -> dict[str, Any]:
    while not os.path.exists(state["until"]):  # noqa: ASYNC240, PTH110 - what must not be done
        time.sleep(0.01)  # noqa: ASYNC251
    return {}


blocking = StateGraph(BlockingState).add_node(block).add_edge(START, "block").add_edge("block", END).compile()
