"""One question to the model from a node of a graph that is written by hand.

It is asked through an agent of its own, so it has what every agent has: the assistant's model and limits,
retries, the fallback, and an answer of a given shape where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import HumanMessage
from langgraph.constants import TAG_HIDDEN, TAG_NOSTREAM
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel

from .answers import ANSWER_CUT
from .context import Context, context_of
from .delegate import difference
from .middleware import standard
from .offline import OfflineChatModel, Rule
from .problems import Problem
from .spending import BUDGET_SPENT
from .state import ToolAgentState, Usage

SHAPE_ATTEMPTS: Final = 3
# Neither the model's words nor the messages of the agent's nodes go to a front end.
_UNSTREAMED: Final[Any] = {"tags": [TAG_NOSTREAM, TAG_HIDDEN]}

Asker = CompiledStateGraph[Any, Context, Any, Any]


class Answer(NamedTuple):
    """What came of a question."""

    text: str
    shaped: Any
    """The answer in the shape that was asked for; None if the model never kept to it, or there is none."""
    usage: Usage
    problem: Problem | None
    """Why the answer is cut, or none: then the text is nobody's answer."""

    @property
    def overspent(self) -> Problem | None:
        """Set where the run has spent what it may."""
        return self.problem if self.problem and self.problem["code"] == BUDGET_SPENT else None

    @property
    def cut(self) -> bool:
        """Whether the text is an answer's beginning."""
        return self.problem is not None and self.problem["code"] == ANSWER_CUT


def asker(name: str, *, prompt: str, script: Rule, shape: type[BaseModel] | None = None) -> Asker:
    """Make an agent that answers one question.

    Args:
        name: Its name, as traces show it.
        prompt: Its instructions.
        script: What the offline model does in its place.
        shape: What the answer must fit. What does not goes back to the model, SHAPE_ATTEMPTS times in all.
    """
    bound = [ModelCallLimitMiddleware[Any, Context](run_limit=SHAPE_ATTEMPTS)] if shape else []
    return create_agent(
        OfflineChatModel(rule=script),
        system_prompt=prompt,
        # A tool to call, and not a provider's own mode: every model with tools knows it.
        response_format=ToolStrategy(shape) if shape else None,
        middleware=[*standard(redact_pii=True), *bound],
        state_schema=ToolAgentState,
        context_schema=Context,
        checkpointer=False,
        name=name,
    )


async def ask(agent: Asker, question: str, state: Mapping[str, Any], runtime: Runtime[Any]) -> Answer:
    """Ask; the graph's `usage` so far counts against the assistant's limits.

    Raises:
        ModelFailedError: The provider refuses or stays away, or its package or key is missing.
    """
    before: Usage = state.get("usage") or Usage()
    given: Any = {"messages": [HumanMessage(question)], "usage": before}
    final = await agent.ainvoke(given, _UNSTREAMED, context=context_of(runtime), durability="async")
    return Answer(
        text=final["messages"][-1].text.strip(),
        shaped=final.get("structured_response"),
        usage=difference(final.get("usage", before), before),
        problem=final.get("problem"),
    )
