"""Graphs of the fault suite. Every node writes down that it ran, in a file that no fault reaches."""

import asyncio
import base64
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
    """What a run is given, and what its nodes leave in it.

    `node_seconds` is how long each node takes, `megabytes` how much each puts into `filler`, `left` how many
    steps a run of many has before it.
    """

    node_seconds: float
    left: int
    megabytes: float
    filler: str
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
        result: dict[str, Any] = {"visited": [name]}
        if size := int(state.get("megabytes", 0.0) * 1e6):
            result["filler"] = await asyncio.to_thread(incompressible, size)
        note(config, name, "ended")
        return result

    return node


def incompressible(size: int) -> str:
    """Text of so many characters that Postgres cannot make smaller by much."""
    return base64.b64encode(os.urandom(size * 3 // 4 + 3)).decode()[:size]


async def waits(state: State, config: RunnableConfig) -> dict[str, Any]:
    await asyncio.sleep(state.get("node_seconds", 0.3))
    return {}


async def blocks(state: State, config: RunnableConfig) -> dict[str, Any]:
    time.sleep(state.get("node_seconds", 30.0))  # noqa: ASYNC251 - the fault itself
    return {}


async def kills_its_worker(state: State, config: RunnableConfig) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


async def saves(state: State, config: RunnableConfig) -> dict[str, Any]:
    """One of many quick steps, so that the run saves all the time."""
    left = state["left"]
    note(config, f"saves-{left}", "began")
    await asyncio.sleep(state.get("node_seconds", 0.05))
    return {"left": left - 1}


def loop(node: Node) -> Any:
    """A graph that runs a node again and again while something is left."""
    graph: Any = StateGraph(State)
    graph.add_node("saves", node)
    graph.add_edge(START, "saves")
    graph.add_conditional_edges("saves", lambda state: "saves" if state["left"] else END)
    return graph.compile()


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
saving = loop(saves)
poison = chain(waits=waits, kills_its_worker=kills_its_worker)
