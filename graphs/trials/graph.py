"""The trials agent: one model with three tools, each for one section of what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain.agents import create_agent
from langgraph.graph.state import CompiledStateGraph

from graphs.kit.context import Context
from graphs.kit.intake import json_intake
from graphs.kit.middleware import standard
from graphs.kit.offline import OfflineChatModel
from graphs.kit.problems import Problem, parse_input
from graphs.trials.offline import script
from graphs.trials.state import MODELS, State
from graphs.trials.tools import compare_groups, judge_look, size_trial

PROMPT: Final = """You are a biostatistician's assistant. What there is of a 'design' to size, 'survival'
data and an 'interim' look was sent; your tools read it, and say so where nothing was sent for them. Call
those that the question is about, all three if it is open. Then answer in plain sentences with the figures
and every assumption. Never compute a figure yourself. A large p-value does not show that groups are equal.
A decision is advice, and you give statistics, not medical advice."""

NOTHING: Final = Problem(
    code="missing_input",
    message="There is no 'design', 'survival' or 'interim'.",
    cure=(
        "Attach a JSON file with a design to size, survival data to compare or an interim look to judge, "
        "paste it, name a file of the data folder, or send the keys, for example: "
        '{"design": {"kind": "two_proportions", "control": 0.5, "treatment": 0.75, "power": 0.9}}'
    ),
)


def check_sections(state: Mapping[str, Any]) -> None:
    """Check every section that was sent."""
    for key, model in MODELS.items():
        if state.get(key) is not None:
            parse_input(model, state[key], key=key)


graph: CompiledStateGraph[Any, Context, Any, Any] = create_agent(
    OfflineChatModel(rule=script),
    [size_trial, compare_groups, judge_look],
    system_prompt=PROMPT,
    middleware=[json_intake(tuple(MODELS), check_sections, nothing=NOTHING), *standard(redact_pii=True)],
    state_schema=State,
    context_schema=Context,
    name="trials",
)
