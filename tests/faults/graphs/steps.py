"""Graphs of the fault suite. Every node writes down that it ran, in a file that no fault reaches."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from operator import add
from typing import Annotated, Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

JOURNAL = os.environ["FAULTS_JOURNAL"]
NODES = ("one", "two", "three", "four")


class State(TypedDict, total=False):
    """`node_seconds` is how long each node takes."""

    node_seconds: float
    visited: Annotated[list[str], add]


Node = Callable[[State, RunnableConfig], Awaitable[dict[str, Any]]]


def note(config: RunnableConfig, node: str, what: str) -> None:
    """Append one line in one write, so that lines of several processes and threads never mix."""
    run_id = config["configurable"]["run_id"]
    line = f"{run_id} {node} {what} {os.getpid()} {time.monotonic():.4f}\n"
    file = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def noted(name: str, work: Node) -> Node:
    """A node that notes its beginning and its end."""

    async def node(state: State, config: RunnableConfig) -> dict[str, Any]:
        note(config, name, "began")
        await work(state, config)
        note(config, name, "ended")
        return {"visited": [name]}

    return node


async def waits(state: State, config: RunnableConfig) -> dict[str, Any]:
    await asyncio.sleep(state.get("node_seconds", 0.3))
    return {}


async def blocks(state: State, config: RunnableConfig) -> dict[str, Any]:
    time.sleep(state.get("node_seconds", 30.0))  # noqa: ASYNC251 - the fault itself
    return {}


async def kills_its_worker(state: State, config: RunnableConfig) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def chain(**nodes: Node) -> Any:
    """A graph that runs these nodes one after the other."""
    graph: Any = StateGraph(State)
    before = START
    for name, work in nodes.items():
        graph.add_node(name, noted(name, work))
        graph.add_edge(before, name)
        before = name
    return graph.add_edge(before, END).compile()


steps = chain(one=waits, two=waits, three=waits, four=waits)
blocking = chain(blocks=blocks, waits=waits)
poison = chain(waits=waits, kills_its_worker=kills_its_worker)
