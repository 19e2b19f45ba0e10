"""An agent as LangChain's own pages write them: it must pass the guard and `mypy --strict` as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ContextEditingMiddleware,
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRequest,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
    before_model,
    dynamic_prompt,
)
from langchain.agents.structured_output import ToolStrategy
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models import FakeListChatModel
from langgraph.runtime import Runtime
from pydantic import BaseModel


@dataclass
class Context:
    """What an assistant of this graph may set."""

    prompt: str = "You help."


class Answer(BaseModel):
    """The shape of the result."""

    text: str


class State(AgentState[Answer], total=False):
    """An input key of its own."""

    data: str


@tool
async def look_up(text: str, runtime: ToolRuntime[Context, State]) -> str:
    """Look something up."""
    return f"{runtime.context.prompt}: {text}"


@dynamic_prompt
def prompt(request: ModelRequest[Context]) -> str:
    """Take the assistant's prompt."""
    return request.runtime.context.prompt


@before_model
async def greet(state: AgentState[Any], runtime: Runtime[Context]) -> dict[str, Any] | None:
    """Do nothing, in a hook of one's own."""
    return None


model = FakeListChatModel(responses=[])

# The annotation is needed: a middleware's type names its state, and a plain list would demand one for all.
middleware: list[AgentMiddleware[Any, Context, Any]] = [
    prompt,
    greet,
    ModelRetryMiddleware(),
    ToolRetryMiddleware(),
    ModelFallbackMiddleware(model),
    ModelCallLimitMiddleware(run_limit=10),
    ToolCallLimitMiddleware(run_limit=10),
    SummarizationMiddleware(model),
    ContextEditingMiddleware(),
    PIIMiddleware("email"),
    TodoListMiddleware(),
    HumanInTheLoopMiddleware({"look_up": True}),
]

graph = create_agent(
    model,
    [look_up],
    middleware=middleware,
    context_schema=Context,
    state_schema=State,
    response_format=ToolStrategy(Answer),
    name="idiomatic",
)
