"""An agent that calls a model, a tool, and the model again."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool


class Thinker(BaseChatModel):
    """Asks for the weather, then tells it."""

    @property
    def _llm_type(self) -> str:
        return "thinker"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        """It knows its tool."""
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **options: Any) -> ChatResult:
        usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
        calls = [{"name": "weather", "args": {"place": "Oslo"}, "id": "1"}]
        is_told = isinstance(messages[-1], ToolMessage)
        said = AIMessage(
            "Sunny." if is_told else "", tool_calls=[] if is_told else calls, usage_metadata=usage
        )
        return ChatResult(generations=[ChatGeneration(message=said)])


@tool
async def weather(place: str) -> str:
    """Say what the weather is like."""
    return f"sunny in {place}"


thinking = create_agent(Thinker(), [weather], name="thinking")
