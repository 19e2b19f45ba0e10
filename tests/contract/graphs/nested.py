"""A graph within a graph; the inner one can wait for a human."""

from operator import add
from typing import Annotated, Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    """`ask` makes the inner graph wait; `path` is which nodes ran."""

    ask: bool
    path: Annotated[list[str], add]


class InnerState(TypedDict, total=False):
    """What the inner graph has for itself, and what it shares."""

    ask: bool
    inner_note: str
    path: Annotated[list[str], add]


async def note(state: InnerState) -> dict[str, Any]:
    return {"inner_note": "noted"}


async def decide(state: InnerState) -> dict[str, Any]:
    answer = interrupt("Go on?") if state.get("ask") else "unasked"
    return {"path": [f"{state['inner_note']}: {answer}"]}


inner = (
    StateGraph(InnerState)
    .add_node("note", note)
    .add_node("decide", decide)
    .add_edge(START, "note")
    .add_edge("note", "decide")
    .add_edge("decide", END)
    .compile()
)


async def before(state: State) -> dict[str, Any]:
    return {"path": ["before"]}


async def after(state: State) -> dict[str, Any]:
    return {"path": ["after"]}


nested = (
    StateGraph(State)
    .add_node("before", before)
    .add_node("inner", inner)
    .add_node("after", after)
    .add_edge(START, "before")
    .add_edge("before", "inner")
    .add_edge("inner", "after")
    .add_edge("after", END)
    .compile()
)
