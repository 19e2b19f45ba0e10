"""The graph that every side serves: three nodes that do next to nothing, so that it shows the platform."""

from operator import add
from typing import Annotated, Any

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    """`number` comes in; `total` and `visited` come out."""

    number: int
    events: int
    """How many events the second node writes to whoever streams."""
    total: int
    visited: Annotated[list[str], add]


async def first(state: State) -> dict[str, Any]:
    """Begin with the number."""
    return {"total": state["number"], "visited": ["first"]}


async def second(state: State) -> dict[str, Any]:
    """Write the events, if any are wanted, and double the number."""
    if events := state.get("events", 0):
        write = get_stream_writer()
        for tick in range(events):
            write({"tick": tick})
    return {"total": state["total"] * 2, "visited": ["second"]}


async def third(state: State) -> dict[str, Any]:
    """Add one, so that an answer cannot be right by leaving a node out."""
    return {"total": state["total"] + 1, "visited": ["third"]}


builder = (
    StateGraph(State)
    .add_node("first", first)
    .add_node("second", second)
    .add_node("third", third)
    .add_edge(START, "first")
    .add_edge("first", "second")
    .add_edge("second", "third")
    .add_edge("third", END)
)
graph = builder.compile()
