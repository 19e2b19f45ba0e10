"""Agents as their users write them, with LangChain's own review of tool calls, and our support agent."""

import json
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from graphs.support.graph import graph

support = graph


@tool
async def refund(order: int, amount: float, note: str = "") -> str:
    """Pay money back."""
    return f"refunded {amount} for {order}{note and ' '}{note}"


@tool
async def close_account(name: str) -> str:
    """Close an account."""
    return f"closed {name}"


class Obedient(BaseChatModel):
    """Calls the tools that the user names, then says what came of it."""

    @property
    def _llm_type(self) -> str:
        return "obedient"

    def bind_tools(self, *_: Any, **__: Any) -> "Obedient":
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if isinstance(messages[-1], ToolMessage):
            results = {one.tool_call_id: one.text for one in messages if isinstance(one, ToolMessage)}
            said = AIMessage(json.dumps([results[call] for call in sorted(results)]))
        else:
            wanted = enumerate(json.loads(messages[-1].text))
            calls = [{"name": name, "args": args, "id": f"call_{index}"} for index, (name, args) in wanted]
            said = AIMessage("", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=said)])


REVIEWED: dict[str, Any] = {
    "refund": True,
    "close_account": {"allowed_decisions": ["approve", "reject"], "description": "Close it?"},
}

reviewed = create_agent(
    Obedient(), [refund, close_account], middleware=[HumanInTheLoopMiddleware(interrupt_on=REVIEWED)]
)
reviewed_one_by_one = create_agent(
    Obedient(),
    [refund, close_account],
    middleware=[HumanInTheLoopMiddleware(interrupt_on=REVIEWED, interrupt_mode="per_call")],
)
