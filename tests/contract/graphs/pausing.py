"""Graphs of the contract tests that wait for a human."""

from operator import add
from typing import Annotated, Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    """`answers` is what the humans said, `sent` one entry each time the node after the pause ran."""

    text: str
    allow_ignore: bool
    answers: Annotated[list[Any], add]
    sent: Annotated[list[str], add]


def _request(state: State, action: str) -> dict[str, Any]:
    """The payload that agent inboxes understand."""
    return {
        "action_request": {"action": action, "args": {"text": state["text"]}},
        "config": {
            "allow_accept": True,
            "allow_edit": True,
            "allow_respond": True,
            "allow_ignore": state.get("allow_ignore", True),
        },
        "description": f"Send {state['text']!r}?",
    }


async def ask(state: State) -> dict[str, Any]:
    return {"answers": interrupt([_request(state, "send")])}


async def send(state: State) -> dict[str, Any]:
    return {"sent": [state["text"]]}


inbox = (
    StateGraph(State)
    .add_node("ask", ask)
    .add_node("send", send)
    .add_edge(START, "ask")
    .add_edge("ask", "send")
    .add_edge("send", END)
    .compile()
)


async def ask_twice(state: State) -> dict[str, Any]:
    first = interrupt([_request(state, "first")])
    second = interrupt([_request(state, "second")])
    return {"answers": [*first, *second]}


asks_twice = (
    StateGraph(State)
    .add_node("ask_twice", ask_twice)
    .add_node("send", send)
    .add_edge(START, "ask_twice")
    .add_edge("ask_twice", "send")
    .add_edge("send", END)
    .compile()
)


async def ask_freely(state: State) -> dict[str, Any]:
    return {"answers": [interrupt("How many?")]}


asks_freely = (
    StateGraph(State)
    .add_node("ask_freely", ask_freely)
    .add_edge(START, "ask_freely")
    .add_edge("ask_freely", END)
    .compile()
)


async def ask_left(state: State) -> dict[str, Any]:
    return {"answers": interrupt([_request(state, "left")])}


async def ask_right(state: State) -> dict[str, Any]:
    return {"answers": interrupt([_request(state, "right")])}


two_at_once = (
    StateGraph(State)
    .add_node("ask_left", ask_left)
    .add_node("ask_right", ask_right)
    .add_node("send", send)
    .add_edge(START, "ask_left")
    .add_edge(START, "ask_right")
    .add_edge(["ask_left", "ask_right"], "send")
    .add_edge("send", END)
    .compile()
)


asks_inside = StateGraph(State).add_node("outer", inbox).add_edge(START, "outer").compile()


async def draft(state: State) -> dict[str, Any]:
    return {"text": state["text"].strip()}


gated = (
    StateGraph(State)
    .add_node("draft", draft)
    .add_node("send", send)
    .add_edge(START, "draft")
    .add_edge("draft", "send")
    .add_edge("send", END)
    .compile(interrupt_before=["send"])
)
