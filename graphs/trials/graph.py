"""The trials agent: sample size and power, survival comparison, interim look."""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from graphs.kit.offload import in_thread
from graphs.kit.problems import InputProblem, parse_input
from graphs.kit.team import SubAgent, build_team
from graphs.trials import prompts
from graphs.trials.state import MODELS, SECTIONS, State
from graphs.trials.tools import compare_groups, judge_look, size_trial


async def intake(state: State) -> dict[str, Any]:
    """Check every section that was sent; without a new one, work again on those of the turn before."""
    sent: dict[str, Any] = {key: value for key in SECTIONS if (value := state.get(key)) is not None}
    work = sent or state.get("work") or {}
    if not work:
        raise InputProblem(
            "missing_input",
            "There is no 'design', 'survival' or 'interim' in the input.",
            "Send at least one: a 'design' to size, 'survival' data to compare, an 'interim' look to judge.",
        )
    for key, value in sent.items():
        await in_thread(_check, key, value)
    messages = [
        *_opening(state.get("messages", [])),
        *_tell(work, len(state.get("messages", [])), new=bool(sent)),
    ]
    return {**dict.fromkeys(SECTIONS), "work": work, "messages": messages}


def _check(key: str, value: object) -> None:
    parse_input(MODELS[key], value, key=key)


def _opening(messages: list[AnyMessage]) -> list[AnyMessage]:
    asked = bool(messages) and isinstance(messages[-1], HumanMessage)
    return [] if asked else [HumanMessage("Work on the data that I sent.")]


def _tell(work: dict[str, Any], place: int, *, new: bool) -> list[AnyMessage]:
    # The models see messages and not the state: what was sent is told as the outcome of a tool.
    call_id = f"read_input_{place}"
    told = json.dumps({"sections": list(work), "new": new})
    return [
        AIMessage("", name="intake", tool_calls=[{"name": "read_input", "args": {}, "id": call_id}]),
        ToolMessage(told, name="read_input", tool_call_id=call_id),
    ]


graph = build_team(
    State,
    name="trials",
    intake=intake,
    prompt=prompts.SUPERVISOR,
    rule=prompts.supervisor_rule,
    members=[
        SubAgent(
            "designer",
            "sample size and power of a two-group design",
            prompts.DESIGNER,
            [size_trial],
            prompts.designer_rule,
        ),
        SubAgent(
            "survival_analyst",
            "compare survival between groups",
            prompts.SURVIVAL_ANALYST,
            [compare_groups],
            prompts.survival_rule,
        ),
        SubAgent(
            "monitor",
            "judge an interim look: stop or go on",
            prompts.MONITOR,
            [judge_look],
            prompts.monitor_rule,
        ),
    ],
)
