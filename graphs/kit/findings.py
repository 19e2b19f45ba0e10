"""What a tool returns to its agent."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command


def found(runtime: ToolRuntime[Any, Any], section: str, value: dict[str, Any], says: str) -> Command[Any]:
    """What a tool returns: its findings under `result[section]`, and a short text for the model.

    Args:
        runtime: The tool's runtime.
        section: The key under `result`.
        value: The findings, as JSON values.
        says: What the model reads; a summary with the figures that matter, not the data.
    """
    message = ToolMessage(content=says, tool_call_id=runtime.tool_call_id)
    return Command(update={"result": {section: value}, "messages": [message]})
