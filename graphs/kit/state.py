"""The state keys that every agent has.

An agent's own state adds its input keys (`data`, `tasks`, …). Results go under `result`, a dictionary with a
section for each tool that ran, so that tools which run side by side do not overwrite each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from langchain import agents
from langchain.agents.middleware.types import OmitFromInput
from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

# Pydantic, and so the server's schemas, cannot read the TypedDict of `typing` before Python 3.12.
from .problems import Problem


class Usage(TypedDict, total=False):
    """What one run has cost so far; tokens are counted as the provider tells them."""

    model_calls: int
    tool_calls: int
    input_tokens: int
    output_tokens: int


def _object(value: Any, key: str, kind: type) -> dict[str, Any]:
    """The value if it is an object of such values, as agents write it; callers may send anything."""
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(each, kind) for each in value.values()):
        return dict(value)
    raise ValueError(
        f"This is no '{key}' of a run. The run writes it itself: leave '{key}' out of the input."
    )


def merge_result(old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    """Add the new sections to the old ones; None clears them, which intake does at the start of a turn."""
    return {} if new is None else {**(old or {}), **_object(new, "result", object)}


def add_usage(old: Usage | None, new: Usage | None) -> Usage:
    """Add up two usages; None starts again from zero."""
    if new is None:
        return Usage(model_calls=0, tool_calls=0, input_tokens=0, output_tokens=0)
    before, more = _object(old, "usage", int), _object(new, "usage", int)
    return Usage(
        model_calls=before.get("model_calls", 0) + more.get("model_calls", 0),
        tool_calls=before.get("tool_calls", 0) + more.get("tool_calls", 0),
        input_tokens=before.get("input_tokens", 0) + more.get("input_tokens", 0),
        output_tokens=before.get("output_tokens", 0) + more.get("output_tokens", 0),
    )


class Outcome(TypedDict, total=False):
    """What a run comes to: the results of this turn, what went wrong with it, and what it cost."""

    result: Annotated[dict[str, Any], merge_result]
    problem: Annotated[Problem | None, OmitFromInput]
    usage: Annotated[Usage, add_usage]


class AgentState(Outcome, total=False):
    """The state of a graph that is written by hand: the conversation and the outcome."""

    messages: Annotated[list[AnyMessage], add_messages]


class ToolAgentState(agents.AgentState[Any], Outcome, total=False):
    """The state of an agent that `create_agent` builds."""
