"""The state keys that every agent has.

An agent's own state adds its input keys (`data`, `tasks`, …). Results go under `result`, a dictionary with a
section for each tool that ran, so that tools which run side by side do not overwrite each other.
"""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from graphs.kit.problems import Problem


def merge_result(old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    """Add the new sections to the old ones; None clears them, which intake does at the start of a turn."""
    return {} if new is None else {**(old or {}), **new}


class AgentState(TypedDict, total=False):
    """Keys of every agent: the conversation, the results of this turn, and what was wrong with the input."""

    messages: Annotated[list[AnyMessage], add_messages]
    result: Annotated[dict[str, Any], merge_result]
    problem: Problem | None
