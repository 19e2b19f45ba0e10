"""Builds an agent: intake, a supervisor, and its sub-agents, compiled without persistence.

    START → intake ─(problem)→ END
              └→ supervisor ⇄ sub-agent (model ⇄ tools)
                     └→ END

The supervisor's model hands work over by calling `ask_<name>`; a sub-agent is a graph of its own whose model
calls its tools. What a tool finds goes into the state key `result`, so the models never copy data around.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from graphs.kit.findings import found as found
from graphs.kit.model import chat_model
from graphs.kit.offline import Rule, user_text
from graphs.kit.offload import OffloadTimeoutError
from graphs.kit.policies import MODEL_TIMEOUT_SECONDS, TOOL_TIMEOUT_SECONDS, TRANSIENT_RETRY
from graphs.kit.problems import InputProblem
from graphs.kit.state import AgentState

MAX_PROMPT_CHARACTERS: Final = 20_000
"""More than this is data, not a question; it would also fill the context of most models."""

SHOWN_CHARACTERS: Final = 200

Node = Callable[..., Awaitable[Any]]
Intake = Callable[[Any], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class SubAgent:
    """One member of the team: what it is for, how it is told, what it can call, and its offline rule."""

    name: str
    purpose: str
    prompt: str
    tools: Sequence[BaseTool]
    rule: Rule


def build_team(
    state: type[AgentState],
    *,
    name: str,
    intake: Intake,
    prompt: str,
    rule: Rule,
    members: Sequence[SubAgent],
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Compile one agent, without checkpointer or store: the server supplies both.

    Args:
        state: The agent's state, an AgentState with its input keys.
        name: The graph's name, as langgraph.json has it.
        intake: Checks the input before anything runs and returns a state update; raises InputProblem.
        prompt: The supervisor's system prompt.
        rule: The supervisor's offline rule; it calls `ask_<member>`.
        members: The sub-agents.
    """
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(state)
    graph.add_node("intake", intake_node(intake), destinations=("supervisor", END))
    graph.add_edge(START, "intake")
    handovers = [_handover(member) for member in members]
    graph.add_node(
        "supervisor",
        _supervisor_node(prompt, rule, handovers),
        destinations=(*(member.name for member in members), END),
        retry_policy=TRANSIENT_RETRY,
        timeout=MODEL_TIMEOUT_SECONDS,
    )
    for member in members:
        graph.add_node(member.name, _sub_agent(state, member))
        graph.add_edge(member.name, "supervisor")
    return graph.compile(name=name)


def intake_node(check: Intake, accepted: str = "supervisor") -> Node:
    """Wrap an intake check into a node: it clears the last turn's results and answers a problem itself."""

    async def intake(state: dict[str, Any]) -> Command[str]:
        fresh: dict[str, Any] = {"result": None, "problem": None}
        said = _said_now(state.get("messages", []))
        try:
            _check_prompt(said)
            update = await check(state)
        except InputProblem as problem:
            answer = _answer_problem(problem)
            answer["messages"] = [*_cut_overlong(said), *answer["messages"]]
            return Command(goto=END, update={**fresh, **answer})
        # Data without a question still starts a turn; the offline rules and real models both need to see one.
        opening = [] if said else [HumanMessage("Work on the data that I sent.")]
        return Command(goto=accepted, update={**fresh, "messages": opening, **update})

    return intake


def _said_now(messages: Sequence[AnyMessage]) -> list[HumanMessage]:
    said: list[HumanMessage] = []
    for message in reversed(messages):
        if not isinstance(message, HumanMessage):
            break
        said.insert(0, message)
    return said


def _check_prompt(said: Sequence[HumanMessage]) -> None:
    size = sum(len(message.text) for message in said)
    if size > MAX_PROMPT_CHARACTERS:
        raise InputProblem(
            "prompt_too_long",
            f"The message has {size:,} characters; {MAX_PROMPT_CHARACTERS:,} is the most.",
            "Ask a shorter question, and send data under the agent's input keys instead of in the message.",
        )


def _cut_overlong(said: Sequence[HumanMessage]) -> list[HumanMessage]:
    # Left whole, an overlong message would be sent to the model and checkpointed again at every later turn.
    return [
        HumanMessage(
            f"{message.text[:SHOWN_CHARACTERS]} … (cut, {len(message.text):,} characters)", id=message.id
        )
        for message in said
        if len(message.text) > MAX_PROMPT_CHARACTERS
    ]


def _answer_problem(problem: InputProblem) -> dict[str, Any]:
    return {"problem": problem.problem, "messages": [AIMessage(content=str(problem))]}


def _handover(member: SubAgent) -> BaseTool:
    async def hand_over(task: str) -> str:
        return task

    # Never executed: the supervisor node reads the call and goes there. It exists for its schema.
    return StructuredTool.from_function(
        coroutine=hand_over,
        name=f"ask_{member.name}",
        description=f"Hand a task to the {member.name}: {member.purpose}",
    )


def _supervisor_node(prompt: str, rule: Rule, handovers: Sequence[BaseTool]) -> Node:
    async def supervisor(state: dict[str, Any]) -> Command[str]:
        if state.get("problem"):
            return Command(goto=END)
        model = chat_model(rule, handovers)
        answer = await model.ainvoke([SystemMessage(prompt), *state["messages"]])
        if not answer.tool_calls:
            return Command(goto=END, update={"messages": [answer]})
        # One sub-agent at a time: they build on each other's results. Further calls are told to come again.
        first, *others = answer.tool_calls
        replies = [_reply(first, str(first["args"].get("task", "")))]
        replies += [_reply(call, "Not started: ask again after the present task.") for call in others]
        return Command(goto=first["name"].removeprefix("ask_"), update={"messages": [answer, *replies]})

    return supervisor


def _reply(call: Any, text: str, status: Literal["success", "error"] = "success") -> ToolMessage:
    return ToolMessage(content=text, name=call["name"], tool_call_id=call["id"], status=status)


def _sub_agent(state: type[AgentState], member: SubAgent) -> CompiledStateGraph[Any, Any, Any, Any]:
    async def think(state: dict[str, Any]) -> Command[str]:
        if state.get("problem"):
            return Command(goto=END)
        model = chat_model(member.rule, member.tools)
        answer = await model.ainvoke([SystemMessage(member.prompt), *state["messages"]])
        answer.name = member.name
        return Command(goto="tools" if answer.tool_calls else END, update={"messages": [answer]})

    graph: StateGraph[Any, Any, Any, Any] = StateGraph(state)
    graph.add_node(
        "think",
        think,
        destinations=("tools", END),
        retry_policy=TRANSIENT_RETRY,
        timeout=MODEL_TIMEOUT_SECONDS,
    )
    graph.add_node(
        "tools",
        ToolNode(list(member.tools), awrap_tool_call=_answer_input_problems),
        retry_policy=TRANSIENT_RETRY,
        timeout=TOOL_TIMEOUT_SECONDS,
    )
    graph.add_edge(START, "think")
    graph.add_edge("tools", "think")
    return graph.compile(name=member.name)


async def _answer_input_problems(
    request: ToolCallRequest, execute: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
) -> ToolMessage | Command[Any]:
    try:
        return await execute(request)
    except InputProblem as problem:
        said = problem
    except OffloadTimeoutError as error:
        said = InputProblem("too_much_work", f"{error}.", "Send less data, or ask for something smaller.")
    update = _answer_problem(said)
    update["messages"] = [_reply(request.tool_call, str(said), "error"), *update["messages"]]
    return Command(update=update)


def question(state: dict[str, Any]) -> str:
    """What the user asked in this turn, without surrounding space; empty when only data was sent."""
    return user_text(state.get("messages", [])).strip()
