"""A sub-agent as a tool of its supervisor: the task goes in as text, the report comes back as the answer.

The sub-agent has a conversation of its own, which ends with the call, so hand-offs do not clutter the thread
and no data is copied into its checkpoints. What its tools found goes into the supervisor's `result`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from .context import Context, context_of
from .middleware import problem_message, standard, unsolved_problem
from .offline import OfflineChatModel, Rule
from .state import ToolAgentState, Usage

# Telling a graph without checkpoints how to write them is of no effect, and that is meant here.
warnings.filterwarnings("ignore", message="`durability` has no effect")


def sub_agent(
    name: str,
    purpose: str,
    *,
    prompt: str,
    tools: Sequence[BaseTool],
    script: Rule,
    state_schema: type[ToolAgentState] = ToolAgentState,
    reads: Sequence[str] = (),
) -> BaseTool:
    """Make a sub-agent and return it as a tool.

    Args:
        name: The tool's name.
        purpose: What it is for, as the supervisor's model reads it.
        prompt: The sub-agent's instructions.
        tools: What it can call.
        script: What the offline model does in its place.
        state_schema: The supervisor's state.
        reads: The input keys of the state that its tools read.
    """
    agent: Any = create_agent(
        OfflineChatModel(rule=script),
        list(tools),
        system_prompt=prompt,
        middleware=standard(),
        state_schema=state_schema,
        context_schema=Context,
        checkpointer=False,  # a tool that is run again starts its sub-agent again
        name=name,
    )

    @tool(name, description=purpose)
    async def delegate(task: str, runtime: ToolRuntime[Any, Any]) -> Command[Any]:
        state = runtime.state
        before: Usage = state.get("usage") or Usage()
        given = {key: state[key] for key in (*reads, "result") if key in state}
        # It starts from what is spent already, so that one budget holds for all.
        given |= {"messages": [HumanMessage(task)], "usage": before}
        # The run's own durability would be taken over; "sync" waits for a checkpoint that is never made.
        limits = _share(context_of(runtime), before, _at_once(state["messages"]))
        final = await agent.ainvoke(given, context=limits, durability="async")
        problem = final.get("problem") or unsolved_problem(final["messages"])
        call_id = runtime.tool_call_id or ""
        report = ToolMessage(final["messages"][-1].text, name=name, tool_call_id=call_id)
        if problem:
            report = problem_message(problem, name=name, tool_call_id=call_id)
        return Command(
            update={
                "result": final.get("result"),
                "usage": difference(final.get("usage", before), before),
                "messages": [report],
            }
        )

    return delegate


def _at_once(messages: Sequence[AnyMessage]) -> int:
    """How many calls the model made in the step that is carried out."""
    last = next(each for each in reversed(messages) if isinstance(each, AIMessage))
    return max(1, len(last.tool_calls))


def _share(limits: Context, spent: Usage, at_once: int) -> Context:
    """How far one of several that work at once may go: none of them knows what the others spend."""
    tokens = spent.get("input_tokens", 0) + spent.get("output_tokens", 0)
    before = {
        "max_model_calls": spent.get("model_calls", 0),
        "max_tool_calls": spent.get("tool_calls", 0),
        "max_tokens": tokens,
    }
    share = {name: used + (getattr(limits, name) - used) // at_once for name, used in before.items()}
    return limits.model_copy(update=share)


def difference(after: Usage, before: Usage) -> Usage:
    """What was spent between two usages."""
    return Usage(
        model_calls=after["model_calls"] - before.get("model_calls", 0),
        tool_calls=after["tool_calls"] - before.get("tool_calls", 0),
        input_tokens=after["input_tokens"] - before.get("input_tokens", 0),
        output_tokens=after["output_tokens"] - before.get("output_tokens", 0),
    )
